"""Hub repositories that hold a part only: what the zoo knows completes them."""

import shutil
import warnings

import pytest
from kdexport.core.adapters import Adapter
from kdexport.core.errors import CheckpointWarning, OptionError
from kdexport.core.options import ModelOptions
from kdexport.export import hub
from kdexport.export.completion import completed, is_add_on
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.weights import weight_hashes

VEGA, VEGART = "segmind/Segmind-Vega", "segmind/Segmind-VegaRT"
SDXS = "IDKiro/sdxs-512-dreamshaper"
ANIME, SKETCH = f"{SDXS}-anime", f"{SDXS}-sketch"
PART = "is a part of a pipeline; '.*' completes it"


@pytest.fixture
def remote(narrow, tmp_path, monkeypatch):
    """A Hub with narrow twins, every part in the repository where its authors put it."""
    unet = tmp_path / "unet-only"
    shutil.copytree(narrow("diffengine-tiny-sd-xl") / "unet", unet / "unet")
    folders = {
        VEGA: narrow("segmind-vega"),
        VEGART: narrow("segmind-vegart") / "adapter",
        SDXS: narrow("sdxs-512-dreamshaper"),
        ANIME: narrow("sdxs-512-dreamshaper-anime") / "adapter",
        SKETCH: narrow("sdxs-512-dreamshaper-sketch") / "controlnet",
        "takuoko/tiny_sd_xl_pokemon_blip": unet,
        "stabilityai/stable-diffusion-xl-base-1.0": narrow("diffengine-small-sd-xl"),
        "madebyollin/sdxl-vae-fp16-fix": narrow("diffengine-tiny-sd-xl") / "vae",
    }
    asked = {}

    def snapshot_download(repository, *, revision, **options):
        asked.setdefault(repository, revision)
        snapshot = tmp_path / "hub" / repository / "0123456789abcdef"
        if not snapshot.exists():
            shutil.copytree(folders[repository], snapshot)
        return str(snapshot)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    return asked


def test_an_adapter_is_fused_into_its_base(remote):
    with pytest.warns(CheckpointWarning, match=PART):
        checkpoint = load_checkpoint(VEGART, HubOptions(revision="v1"))
    assert (checkpoint.model, checkpoint.base) == (VEGART, VEGA)
    (source,) = checkpoint.adapters
    assert source.adapter == Adapter(VEGART, revision="0123456789abcdef")
    assert checkpoint.scheduler["_class_name"] == "LCMScheduler"
    assert checkpoint.scheduler["beta_schedule"] == "scaled_linear"
    assert (checkpoint.defaults["steps"], checkpoint.defaults["guidance"]) == (4, 0.0)
    assert remote == {VEGA: None, VEGART: "v1"}  # the revision is that of the model


def test_peft_adapter(remote):
    with pytest.warns(CheckpointWarning, match=PART):
        checkpoint = load_checkpoint(ANIME)
    assert checkpoint.adapters[0].files[0].component == "unet"
    assert any("adapter" in name for name in weight_hashes(checkpoint))


def test_a_controlnet_comes_with_its_pipeline_and_its_card(remote):
    with pytest.warns(CheckpointWarning, match=PART):
        checkpoint = load_checkpoint(SKETCH, HubOptions(revision="v2"))
    assert checkpoint.pipeline_class == "StableDiffusionControlNetPipeline"
    assert checkpoint.component("controlnet").class_name == "ControlNetModel"
    assert (checkpoint.control.model, checkpoint.control.scale) == (SKETCH, 0.8)
    assert checkpoint.control.invert
    assert remote == {SDXS: None, SKETCH: "v2"}


def test_a_unet_comes_with_base_and_vae(remote):
    model = "takuoko/tiny_sd_xl_pokemon_blip"
    with pytest.warns(CheckpointWarning, match=PART):
        checkpoint = load_checkpoint(model)
    assert (checkpoint.model, checkpoint.defaults["steps"]) == (model, 50)
    assert checkpoint.component("unet").config["layers_per_block"] == 1
    assert checkpoint.component("vae").folder.parent.name == "sdxl-vae-fp16-fix"


def test_an_adapter_in_the_box_is_fused_into_the_model_in_the_box():
    options = completed("demo-fast", None, ModelOptions())
    assert options == ModelOptions(base="demo", adapters=(Adapter("demo-fast"),))
    assert completed("demo-fast", None, options) == options


@pytest.mark.parametrize("model", [VEGART, ANIME, SKETCH])
def test_what_was_completed_is_complete(model):
    """So that `verify` can load again what the manifest recorded."""
    with pytest.warns(CheckpointWarning, match=PART):
        options = completed(model, None, ModelOptions(clip_skip=1))
    assert is_add_on(model, options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert completed(model, None, options) == options


def test_what_the_user_says_stays():
    other = Adapter("a/b")
    with pytest.warns(CheckpointWarning, match="'my/vega' completes it"):
        options = completed(VEGART, None, ModelOptions(base="my/vega", adapters=(other,)))
    assert options.base == "my/vega"
    assert options.adapters == (Adapter(VEGART), other)


@pytest.mark.parametrize("model", ["zoo:segmind-vegart", VEGA, "some/where", "folder"])
def test_nothing_is_added_to_what_is_whole(model):
    assert completed(model, None, ModelOptions()) == ModelOptions()


@pytest.mark.parametrize("name", ["segmind-vegart", "sdxs-512-dreamshaper-anime"])
def test_a_made_pipeline_has_its_adapter_beside_it(narrow, name):
    folder = narrow(name)
    checkpoint = load_checkpoint(str(folder))
    (source,) = checkpoint.adapters
    assert source.adapter == Adapter(str(folder / "adapter"))
    again = load_checkpoint(str(folder), extra=ModelOptions(adapters=(source.adapter,)))
    assert again.adapters == checkpoint.adapters


def test_no_pipeline_takes_both_a_guidance_embedding_and_a_controlnet(narrow, tmp_path):
    folder = tmp_path / "lcm"
    shutil.copytree(narrow("edgefusion-guided"), folder)
    path = folder / "model_index.json"
    index = path.read_text()
    path.write_text(index.replace("StableDiffusionPipeline", "LatentConsistencyModelPipeline"))
    extra = ModelOptions(controlnet=str(narrow("sdxs-512-dreamshaper-sketch")))
    with pytest.raises(OptionError, match="for which diffusers has no pipeline with a ControlNet"):
        load_checkpoint(str(folder), extra=extra)
