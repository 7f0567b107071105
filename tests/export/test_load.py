import json
import shutil

import pytest
from kdexport.core.errors import CheckpointError, OptionError
from kdexport.core.options import ModelOptions
from kdexport.export import hub
from kdexport.export.hub import HubOptions, download
from kdexport.export.load import load_checkpoint
from kdexport.export.skeleton import build_skeleton


@pytest.fixture
def folder(narrow, tmp_path):
    shutil.copytree(narrow("bk-sdm-small"), tmp_path / "model")
    return tmp_path / "model"


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_folder(folder):
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.family == "sd"
    assert set(checkpoint.components) == {"text_encoder", "unet", "vae"}
    # A null is a decision: this U-Net has no mid block.
    assert checkpoint.component("unet").config["mid_block_type"] is None
    assert checkpoint.random_weights
    with pytest.raises(CheckpointError, match="no 'text_encoder_2', only text_encoder, unet, vae"):
        checkpoint.component("text_encoder_2")


def test_the_zoo(monkeypatch, tmp_path):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path))
    checkpoint = load_checkpoint("zoo:koala-700m-narrow")
    assert checkpoint.family == "sdxl"
    assert checkpoint.defaults["steps"] == 25
    again = load_checkpoint("zoo:koala-700m-narrow")
    assert again.folder == checkpoint.folder


def test_another_decoder(folder, narrow):
    tiny = narrow("sdxs-512-dreamshaper")
    for decoder in (tiny, tiny / "vae"):
        checkpoint = load_checkpoint(str(folder), extra=ModelOptions(decoder=str(decoder)))
        assert checkpoint.component("vae").class_name == "AutoencoderTiny"
        assert checkpoint.decoder == str(decoder)


def test_a_made_up_decoder_makes_the_weights_random():
    assert not load_checkpoint("demo").random_weights
    extra = ModelOptions(decoder="zoo:taesd-narrow")
    assert load_checkpoint("demo", extra=extra).random_weights


def test_clip_skip(folder):
    layers = load_checkpoint(str(folder)).component("text_encoder").config["num_hidden_layers"]
    extra = ModelOptions(clip_skip=layers)
    assert load_checkpoint(str(folder), extra=extra).clip_skip == layers
    with pytest.raises(OptionError, match=f"at most {layers} for the 'text_encoder' of .*, not"):
        load_checkpoint(str(folder), extra=ModelOptions(clip_skip=layers + 1))


def test_clip_skip_of_sdxl_leaves_one_layer_more(narrow):
    model = str(narrow("koala-700m"))
    encoders = [load_checkpoint(model).component(f"text_encoder{n}") for n in ("", "_2")]
    fewest = min(each.config["num_hidden_layers"] for each in encoders)
    assert load_checkpoint(model, extra=ModelOptions(clip_skip=fewest - 1)).clip_skip == fewest - 1
    with pytest.raises(OptionError, match=f"at most {fewest - 1} for the 'text_encoder"):
        load_checkpoint(model, extra=ModelOptions(clip_skip=fewest))


def test_latent_consistency_models(folder):
    edit(
        folder / "model_index.json",
        lambda d: d.update(_class_name="LatentConsistencyModelPipeline"),
    )
    with pytest.raises(CheckpointError, match=r"has no guidance embedding .* set _class_name"):
        load_checkpoint(str(folder))
    edit(folder / "unet" / "config.json", lambda d: d.update(time_cond_proj_dim=16))
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.family == "sd"
    assert checkpoint.component("unet").config["time_cond_proj_dim"] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(_class_name="FluxPipeline"), "a FluxPipeline, which kdexport cannot"),
        (lambda d: d.pop("vae"), "names no 'vae' in its model_index.json; complete it"),
        (lambda d: d.update(unet=[None, None]), "names no 'unet'"),
        (lambda d: d.update(unet=["diffusers", "UNet1DModel"]), "'unet' in .* is a UNet1DModel"),
    ],
)
def test_pipelines_that_cannot_be_exported(folder, change, message):
    edit(folder / "model_index.json", change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("class_embed_type", "timestep"),
        ("addition_embed_type", "image"),
        ("encoder_hid_dim", 16),
    ],
)
def test_unet_options_that_cannot_be_exported(folder, option, value):
    edit(folder / "unet" / "config.json", lambda d: d.update({option: value}))
    with pytest.raises(CheckpointError, match=f"U-Net of .* sets {option} to {value!r}"):
        load_checkpoint(str(folder))


def test_a_config_that_the_class_refuses(folder):
    edit(folder / "unet" / "config.json", lambda d: d.update(up_block_types=["UpBlock2D"]))
    source = load_checkpoint(str(folder)).component("unet")
    import torch

    with pytest.raises(CheckpointError, match="UNet2DConditionModel refuses the config in"):
        build_skeleton(source, torch.float32)


def test_missing_and_broken_files(folder, tmp_path):
    with pytest.raises(CheckpointError, match="not a diffusers pipeline: it has no model_index"):
        load_checkpoint(str(tmp_path))
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json' is not valid JSON"):
        load_checkpoint(str(folder))
    (folder / "unet" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        load_checkpoint(str(folder))
    with pytest.raises(CheckpointError, match="is a file; kdexport reads a diffusers folder"):
        load_checkpoint(str(folder / "model_index.json"))


@pytest.mark.parametrize("model", ["nonsense", "a/b/c", "../x/y", "zoo"])
def test_what_is_no_id(model):
    with pytest.raises(CheckpointError, match=r"neither a folder nor a Hub id .* nor zoo:NAME"):
        load_checkpoint(model)


def test_an_unknown_zoo_name():
    with pytest.raises(CheckpointError, match="no model 'nope'; choose bk-sdm-base"):
        load_checkpoint("zoo:nope")


def test_offline_and_not_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="'a/b' is not in the local cache; connect"):
        load_checkpoint("a/b", HubOptions(offline=True))


def test_a_cached_snapshot(narrow, monkeypatch, tmp_path):
    """The Hub's cache layout, filled by hand: what an earlier download leaves behind."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--nota-ai--bk-sdm-small"
    shutil.copytree(narrow("bk-sdm-small"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    checkpoint = load_checkpoint("nota-ai/bk-sdm-small", HubOptions(offline=True))
    assert checkpoint.revision == commit
    assert checkpoint.defaults == {"steps": 50, "guidance": 7.5, "negative_prompt": None}


def hub_errors():
    from huggingface_hub import errors

    def http(kind):
        error = kind.__new__(kind)
        Exception.__init__(error, "from the Hub")
        return error

    return [
        (http(errors.GatedRepoError), "is gated: accept its licence"),
        (http(errors.RevisionNotFoundError), "has no revision 'v9'"),
        (http(errors.RepositoryNotFoundError), "There is no 'a/b' on the Hub, or it is private"),
        (errors.LocalEntryNotFoundError("x"), r"cannot be downloaded \(no network\)"),
        (errors.OfflineModeIsEnabled("x"), "not in the local cache, and HF_HUB_OFFLINE"),
        (http(errors.HfHubHTTPError), r"did not deliver 'a/b' \(from the Hub\)"),
        (ConnectionError("refused"), r"did not deliver 'a/b' \(refused\)"),
    ]


@pytest.mark.parametrize(("error", "message"), hub_errors())
def test_what_the_hub_can_answer(monkeypatch, error, message):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=message):
        download("a/b", "v9", None, offline=False)
