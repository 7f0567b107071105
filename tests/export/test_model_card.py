"""Licences: from the card of the model, else from the zoo, never for made-up weights."""

import shutil

import pytest
from kdexport.core.errors import CheckpointError
from kdexport.core.options import ModelOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.model_card import card_licence, card_licence_link
from kdexport.export.pipeline_folder import licence_of


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (None, None),
        ("# A model\n\nlicense: mit\n", None),
        ("---\nlicense: creativeml-openrail-m\n---\n# A model\n", "creativeml-openrail-m"),
        ("---\nlicense: other\nlicense_name: sdxl-turbo\n---\n", "sdxl-turbo"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [a]\n---\n", None),
    ],
)
def test_of_a_card(tmp_path, card, licence):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert card_licence(tmp_path) == licence


@pytest.mark.parametrize(
    ("link", "revision", "found"),
    [
        ("https://a.example/licence", None, "https://a.example/licence"),
        ("LICENSE.md", "abc", "https://huggingface.co/o/m/blob/abc/LICENSE.md"),
        ("a licence", "abc", "https://huggingface.co/o/m/blob/abc/a%20licence"),
        ("LICENSE.md", None, None),
        ("javascript:alert(1)", "abc", None),
        ("[1]", "abc", None),
        ("' '", "abc", None),
    ],
)
def test_where_a_licence_can_be_read(tmp_path, link, revision, found):
    (tmp_path / "README.md").write_text(f"---\nlicense: other\nlicense_link: {link}\n---\n")
    assert card_licence_link(tmp_path, "o/m", revision) == found


@pytest.mark.parametrize("card", [b"---\nlicense: [\n---\n", b"---\n- a\n---\n", b"\xff\xfe\x00"])
def test_a_damaged_card(tmp_path, card):
    (tmp_path / "README.md").write_bytes(card)
    with pytest.raises(CheckpointError, match="begins with damaged YAML; mend it, or remove"):
        card_licence(tmp_path)


def test_the_card_goes_before_the_zoo(tmp_path):
    assert licence_of(tmp_path, "nota-ai/bk-sdm-small") == "creativeml-openrail-m"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert licence_of(tmp_path, "nota-ai/bk-sdm-small") == "mit"


def test_of_checkpoints(narrow, tmp_path):
    assert load_checkpoint("demo").licence == "apache-2.0"
    model = tmp_path / "model"
    shutil.copytree(narrow("bk-sdm-small"), model)
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    # Nobody licensed weights that were made up.
    assert load_checkpoint(str(model)).licence is None
    index = model / "model_index.json"
    index.write_text(index.read_text().replace("_kdexport_random_weights", "_another"))
    assert load_checkpoint(str(model)).licence == "mit"
    student = tmp_path / "student"
    shutil.copytree(model / "unet", student / "unet")
    extra = ModelOptions(base=str(model))
    assert load_checkpoint(str(student), extra=extra).licence == "mit"
    (student / "README.md").write_text("---\nlicense: openrail++\n---\n")
    assert load_checkpoint(str(student), extra=extra).licence == "openrail++"
