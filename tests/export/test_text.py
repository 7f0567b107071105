"""Tokenizers in every form that checkpoints have: what a bundle gets is always the same."""

import json
import shutil

import pytest
from kdexport.core.errors import CheckpointError
from kdexport.export.load import load_checkpoint
from kdexport.export.text import require_tokenizers, write_tokenizer_files
from kdexport.runtimes.tokenizer import ClipTokenizer
from transformers import CLIPTokenizer, CLIPTokenizerFast

PROMPTS = ["a golden vase with different flowers", "Ünïcödé, 123!", "", "word " * 90]


@pytest.fixture
def folder(narrow, tmp_path):
    return shutil.copytree(narrow("bk-sdm-v2-small"), tmp_path / "model")


def only_tokenizer_json(tokenizer):
    loaded = CLIPTokenizerFast.from_pretrained(tokenizer)
    loaded.backend_tokenizer.save(str(tokenizer / "tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        (tokenizer / name).unlink()


def no_length(tokenizer):
    path = tokenizer / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config))


def both(tokenizer):
    only_tokenizer_json(tokenizer)
    no_length(tokenizer)


@pytest.mark.parametrize("change", [only_tokenizer_json, no_length, both])
def test_the_files_of_a_bundle(folder, tmp_path, change):
    original = shutil.copytree(folder / "tokenizer", tmp_path / "original")
    reference = CLIPTokenizer.from_pretrained(original)
    change(folder / "tokenizer")
    encoding = write_tokenizer_files(load_checkpoint(str(folder)), "text_encoder", tmp_path / "out")
    written = tmp_path / "out" / "tokenizer"
    vocabularies = [json.loads((each / "vocab.json").read_text()) for each in (original, written)]
    assert vocabularies[0] == vocabularies[1]
    merges = [(each / "merges.txt").read_text().splitlines() for each in (original, written)]
    assert merges[0] == merges[1]
    # OpenCLIP pads with another token than CLIP.
    assert encoding.pad_token_id == reference.pad_token_id == 0
    assert encoding.max_length == 77
    expected = reference(PROMPTS, padding="max_length", max_length=77, truncation=True).input_ids
    assert ClipTokenizer(encoding, tmp_path / "out")(PROMPTS).ids.tolist() == expected
    again = CLIPTokenizer.from_pretrained(written)
    assert again.model_max_length == 77
    assert again(PROMPTS, padding="max_length", truncation=True).input_ids == expected


def test_a_missing_tokenizer_is_found_early(folder):
    checkpoint = load_checkpoint(str(folder))
    require_tokenizers(checkpoint)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CheckpointError, match=r"lacks the folder '.*tokenizer'; complete it"):
        require_tokenizers(checkpoint)


def test_a_folder_that_holds_no_tokenizer(folder, tmp_path):
    for path in (folder / "tokenizer").iterdir():
        path.write_text("{}")
    with pytest.raises(CheckpointError, match="holds no CLIP tokenizer that transformers can read"):
        write_tokenizer_files(load_checkpoint(str(folder)), "text_encoder", tmp_path / "out")
