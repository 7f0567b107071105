"""Every row of the zoo: its narrow twin is inspected, exported, verified and drawn."""

import json
import shutil

import numpy as np
import pytest
from kdexport import Pipeline
from kdexport.cli.exporting import export_and_verify
from kdexport.core.errors import CheckpointError
from kdexport.core.options import ModelOptions, OnnxOptions, VerifyOptions
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.narrow import RESOLUTION, narrow_twin
from kdexport.export.prepare import prepare_export
from kdexport.export.summary import summarize
from kdexport.export.zoo import zoo, zoo_decoder, zoo_decoders

# Exported, verified and drawn in test_end_to_end.py, with other options.
ELSEWHERE = {"bk-sdm-tiny", "koala-700m", "sdxs-512-dreamshaper", "bk-sdm-v2-small"}


# Settings of a U-Net that make no difference to how it takes pictures of any size: how often its
# layers are repeated, for example.
SIZELESS = {
    *("upcast_attention", "time_cond_proj_dim", "layers_per_block"),
    *("transformer_layers_per_block", "reverse_transformer_layers_per_block"),
}


def rows_by_unet(ignored=()):
    """Lists of rows whose U-Nets are built alike, so that one worker traces each of them once."""
    groups = {}
    for name, entry in zoo().items():
        if name not in ELSEWHERE:
            unet = narrow_twin(entry).unet.config
            kept = {key: value for key, value in unet.items() if key not in ignored}
            groups.setdefault(json.dumps(kept, sort_keys=True), []).append(name)
    # The longest first: the workers are done at about the same time.
    return sorted(groups.values(), key=len, reverse=True)


GROUPS = rows_by_unet()
# One of each kind takes any size; the others are traced at one size, in a quarter of the time.
ANY_SIZE = {names[-1] for names in rows_by_unet(SIZELESS)}


def cases():
    """One row of each kind; the others of a group, and groups of a kind that is there, are slow."""
    for names in GROUPS:
        *others, last = names
        slow = [pytest.mark.slow]
        yield pytest.param([last], id=last, marks=slow if last not in ANY_SIZE else [])
        if others:
            yield pytest.param(others, id=" ".join(others), marks=slow)


@pytest.mark.parametrize("names", cases())
def test_rows(narrow, tmp_path, names):
    for name in names:
        check_row(zoo()[name], narrow(name), tmp_path / name, name in ANY_SIZE)


def check_row(entry, folder, bundle, any_size):
    edge = None if any_size else RESOLUTION
    options = OnnxOptions(schedulers=(), max_steps=min(entry.steps, 4), height=edge, width=edge)
    verify = VerifyOptions(steps=min(entry.steps, 2))
    checkpoint = load_checkpoint(str(folder))
    exported = export_and_verify(checkpoint, options, bundle, verify, False, lambda *told: None)
    assert exported.verification.record.passed
    manifest = exported.manifest
    assert manifest.defaults.guidance == entry.guidance
    assert (manifest.shapes.height, manifest.shapes.width) == (edge, edge)
    assert {each.role for each in manifest.components} == {
        "vae_decoder" if part == "vae" else part for part in entry.models()
    }
    assert (manifest.control is not None) is (entry.controlnet is not None)
    assert [each.model for each in manifest.source.adapters] == (
        [str(folder / "adapter")] if entry.adapter else []
    )
    summary = summarize(str(folder), HubOptions(), None)
    assert summary.parameters["unet"] == manifest.component("unet").parameters
    size = {"height": manifest.defaults.height, "width": manifest.defaults.width}
    control = {"control": np.full((9, 7, 3), 200, np.uint8)} if manifest.control else {}
    with Pipeline.load(bundle) as pipeline:
        picture = pipeline("a red boat", steps=min(entry.steps, 2), seed=1, **size, **control)
    assert picture.size == (size["width"], size["height"])
    assert np.asarray(picture).std() > 1


@pytest.mark.parametrize("name", zoo_decoders())
def test_decoders(micro, micro_pipeline, tmp_path, name):
    """The narrow twin of each in the place of another VAE; its factors go into the bundle."""
    folder, bundle = tmp_path / "pipeline", tmp_path / "bundle"
    config = zoo_decoder(name).vae.config
    shutil.copytree(micro_pipeline, folder)
    channels = config.get("latent_channels", 4)
    text = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    unet = {**micro.UNET, "cross_attention_dim": text["hidden_size"]}
    shutil.rmtree(folder / "unet")
    sizes = {"in_channels": channels, "out_channels": channels}
    micro.save(folder, "unet", "UNet2DConditionModel", unet | sizes)
    checkpoint = load_checkpoint(str(folder), extra=ModelOptions(decoder=f"zoo:{name}-narrow"))
    options = OnnxOptions(schedulers=(), max_steps=2, with_encoder=True)
    verify = VerifyOptions(steps=2)
    exported = export_and_verify(checkpoint, options, bundle, verify, False, lambda *told: None)
    assert exported.verification.record.passed
    latents = exported.manifest.latents
    assert (latents.channels, latents.factor) == (channels, 8)
    default = 1.0 if "Tiny" in zoo_decoder(name).vae.class_name else 0.18215
    assert latents.scaling_factor == config.get("scaling_factor", default)


def test_a_decoder_of_other_latents(micro_pipeline):
    extra = ModelOptions(decoder="zoo:taesd3-narrow")
    checkpoint = load_checkpoint(str(micro_pipeline), extra=extra)
    with pytest.raises(CheckpointError, match="latents of 4 channels, and its VAE decodes 16"):
        prepare_export(checkpoint, OnnxOptions())


def test_every_row_is_exported_somewhere():
    assert {name for names in GROUPS for name in names} | ELSEWHERE == set(zoo())
