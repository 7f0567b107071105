"""Bundles with engines."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from kdexport.core.errors import BundleError, ExportError, OptionError
from kdexport.core.gpus import resolve_gpu
from kdexport.core.manifest import check_files, load_manifest, save_manifest
from kdexport.core.parity import NOT_EXECUTED
from kdexport.core.profiles import Profile
from kdexport.core.tensorrt_options import TensorrtOptions
from kdexport.export.tensorrt import bundle as module
from kdexport.export.tensorrt.bundle import add_engines, at_best_size, copy_bundle, rows_per_image
from kdexport.export.tensorrt.key import engine_key
from kdexport.export.tensorrt.libraries import library_version
from kdexport.export.tensorrt.request import EngineRequest
from kdexport.export.tensorrt.targets import resolve_targets

PROFILE = Profile.parse(["batch=1,2,4", "height=64,128,128", "width=64"], 64)


@pytest.fixture
def source(micro_bundle, tmp_path):
    """A bundle that may be written to."""
    return shutil.copytree(micro_bundle, tmp_path / "source")


def test_copies_are_links(source, tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    manifest = copy_bundle(source, staging)
    assert manifest == load_manifest(source)
    check_files(manifest, staging)
    for record in manifest.files:
        assert (staging / record.path).samefile(source / record.path)
    # The manifest is written anew, and there is no record of parity.
    assert not (staging / "manifest.json").exists()
    assert not (staging / "parity.json").exists()


def test_copies_where_there_are_no_links(source, tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    staging = tmp_path / "staging"
    staging.mkdir()
    manifest = copy_bundle(source, staging)
    check_files(manifest, staging)
    file = manifest.files[0].path
    assert not (staging / file).samefile(source / file)


def test_parity_holds_for_the_copies(source, tmp_path):
    (source / "parity.json").write_text("{}")
    save_manifest(replace(load_manifest(source), parity={"passed": True}), source)
    staging = tmp_path / "staging"
    staging.mkdir()
    copy_bundle(source, staging)
    # It is written anew for the engines: never through a link.
    assert (staging / "parity.json").read_text() == "{}"
    assert not (staging / "parity.json").samefile(source / "parity.json")


def test_another_kind_of_bundle(source, tmp_path):
    save_manifest(replace(load_manifest(source), backend="coreml"), source)
    message = (
        rf"'{source}' is a bundle for coreml; engines are built from ONNX: name an ONNX bundle, or "
        r"the model itself\."
    )
    with pytest.raises(BundleError, match=message):
        copy_bundle(source, tmp_path)


@pytest.mark.parametrize("damage", ["changed", "missing", "no bundle"])
def test_damaged_bundles(source, tmp_path, damage):
    data = source / "unet" / "model.onnx.data"
    staging = tmp_path / "staging"
    staging.mkdir()
    if damage == "changed":
        data.write_bytes(data.read_bytes()[:-1] + b"?")
    elif damage == "missing":
        data.unlink()
    else:
        (source / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx\.data|is no kdexport bundle"):
        copy_bundle(source, staging)
    assert list(staging.iterdir()) == []


def test_sizes_and_rows(source):
    manifest = load_manifest(source)
    best = at_best_size(manifest, PROFILE)
    assert (best.defaults.height, best.defaults.width) == (128, 64)
    assert replace(best, defaults=manifest.defaults) == manifest
    for guidance, embedding, rows in ((7.5, None, 2), (1.0, None, 1), (7.5, 256, 1)):
        defaults = replace(manifest.defaults, guidance=guidance)
        changed = replace(manifest, defaults=defaults, guidance_embedding=embedding)
        assert rows_per_image(changed) == rows


@pytest.fixture
def text_only(source, tmp_path, monkeypatch):
    """A staging folder whose manifest names the text encoder only, and an empty cache."""
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path / "cache"))
    staging = tmp_path / "staging"
    staging.mkdir()
    manifest = copy_bundle(source, staging)
    (staging / "unet" / "model.onnx").unlink()
    return staging, replace(manifest, components=(manifest.component("text_encoder"),))


def test_several_gpus(text_only, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    staging, manifest = text_only
    options = TensorrtOptions(gpus=("4090", "3090"))
    told = []
    made = add_engines(
        staging,
        manifest,
        options,
        resolve_targets(options),
        PROFILE,
        "12" * 32,
        lambda what, share: told.append(what),
    )
    assert made.backend == "tensorrt"
    assert made.request == "12" * 32
    version = library_version("rtx")
    assert made.tools["tensorrt_rtx"] == version
    assert [(each.role, each.capability, each.file) for each in made.engines] == [
        ("text_encoder", "sm_89", "text_encoder.sm89.rtx.engine"),
        ("text_encoder", "sm_86", "text_encoder.sm86.rtx.engine"),
    ]
    for engine, capability in zip(made.engines, ((8, 9), (8, 6)), strict=True):
        assert (engine.kind, engine.tensorrt) == ("rtx", version)
        assert (staging / engine.file).read_bytes().startswith(b"vtrt")
        request = EngineRequest(
            *("text_encoder", staging / "text_encoder" / "model.onnx", "rtx", capability),
            engine.profile,
        )
        assert engine.key == engine_key(request, version)
        assert engine.settings == {"compatibility": "none", "level": None}
        ((least, best, most),) = engine.profile.values()
        # One prompt or more, two for each guided image.
        assert (least[0], best[0], most[0]) == (1, 4, 8)
    assert {each.file for each in made.engines} <= {each.path for each in made.files}
    assert load_manifest(staging).engines == made.engines
    assert made.engines[0].key != made.engines[1].key
    assert {"text_encoder: engine for sm_86", "hashing"} <= set(told)
    # A bundle made of this one leaves the engines behind.
    again = tmp_path / "again"
    again.mkdir()
    assert copy_bundle(staging, again).engines == ()
    assert not list(again.glob("*.engine"))


def test_the_label_of_parity(tmp_path):
    assert module._labelled(None, tmp_path) is None
    parity = {"passed": True, "runtime": {"onnxruntime": "1"}}
    record = module._labelled(parity, tmp_path)
    assert record == {
        "passed": True,
        "runtime": {"onnxruntime": "1", "tensorrt": NOT_EXECUTED},
    }
    assert json.loads((tmp_path / "parity.json").read_text()) == record
    assert "tensorrt" not in parity["runtime"]


def test_refusals(text_only):
    pytest.importorskip("tensorrt_rtx")
    staging, manifest = text_only

    def add(gpu):
        add_engines(
            *(staging, manifest, TensorrtOptions(), [resolve_gpu(gpu)], PROFILE, None),
            lambda *told: None,
        )

    with pytest.raises(OptionError, match=r"does not build for .*--engine native"):
        add("H100")
    (staging / "text_encoder" / "model.onnx").unlink()
    with pytest.raises(ExportError, match="There is no ONNX file"):
        add("4090")
    assert not list(staging.glob("*.engine"))


def test_every_component_is_checked_before_the_first_is_built(source, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx")
    staging = tmp_path / "staging"
    staging.mkdir()
    manifest = copy_bundle(source, staging)
    (staging / manifest.components[-1].file).unlink()
    monkeypatch.setattr(module, "cached_engine", lambda *given: pytest.fail("built"))
    with pytest.raises(ExportError, match="There is no ONNX file"):
        add_engines(
            *(staging, manifest, TensorrtOptions(), [resolve_gpu("4090")], PROFILE, None),
            lambda *told: None,
        )
