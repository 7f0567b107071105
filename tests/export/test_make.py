"""Random checkpoints: they load, repeat byte for byte, and leave nothing when they fail."""

import hashlib
import json
import logging

import diffusers
import pytest
import transformers
from kdexport.core import folder as core_folder
from kdexport.core.errors import BundleError, CheckpointError, DiskSpaceError
from kdexport.export.make import made_checkpoint, make_checkpoint
from kdexport.export.zoo import zoo

NAMES = tuple(zoo())
SMALLEST = "sdxs-512-dreamshaper"


def _hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture
def warnings_seen():
    """What diffusers and transformers log as a warning or worse."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    # Importing the pipelines warns of optional packages; that is not of interest.
    assert diffusers.StableDiffusionPipeline is not diffusers.StableDiffusionXLPipeline
    handler = Keep(logging.WARNING)
    for library in ("diffusers", "transformers"):
        logging.getLogger(library).addHandler(handler)
    yield records
    for library in ("diffusers", "transformers"):
        logging.getLogger(library).removeHandler(handler)


@pytest.mark.parametrize("name", NAMES)
def test_components_load_completely(narrow, name, warnings_seen):
    folder = narrow(name)
    index = json.loads((folder / "model_index.json").read_text())
    for each in zoo()[name].models():
        library, class_name = index[each]
        loader = getattr(diffusers if library == "diffusers" else transformers, class_name)
        _, info = loader.from_pretrained(folder / each, output_loading_info=True)
        assert {kind: list(names) for kind, names in info.items() if names} == {}
    assert not warnings_seen


@pytest.mark.parametrize("name", NAMES)
def test_the_pipeline_loads_without_warnings(narrow, name, warnings_seen):
    getattr(diffusers, zoo()[name].pipeline).from_pretrained(narrow(name))
    # SDXS really has a tiny autoencoder where its pipeline class announces the other.
    assert [each for each in warnings_seen if "Expected types for vae" not in each] == []


def test_the_seed_decides_every_byte(tmp_path):
    for folder, seed in (("one", 0), ("same", 0), ("other", 1)):
        make_checkpoint(SMALLEST, tmp_path / folder, narrow=True, seed=seed)
    one, same, other = (_hashes(tmp_path / each) for each in ("one", "same", "other"))
    assert one == same
    differing = {path for path in one if one[path] != other[path]}
    weights = {path for path in one if path.endswith(".safetensors")}
    assert differing == weights | {"model_index.json"}  # which records the seed


def test_an_existing_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match=r"out' already exists"):
        make_checkpoint(SMALLEST, tmp_path / "out", narrow=True)
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_name_lists_the_choices(tmp_path):
    with pytest.raises(CheckpointError, match="no model 'sd-15'; choose bk-sdm-base"):
        make_checkpoint("sd-15", tmp_path / "out")
    with pytest.raises(CheckpointError, match="no model 'sd-15'"):
        made_checkpoint("sd-15-narrow")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(tmp_path, failure):
    seen = []

    def stop_at_the_second(text):
        seen.append(text)
        if len(seen) == 2:
            raise failure

    with pytest.raises(failure):
        make_checkpoint(SMALLEST, tmp_path / "a" / "b", narrow=True, progress=stop_at_the_second)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = core_folder.shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(core_folder.shutil, "disk_usage", lambda path: usage)
    lines = []
    with pytest.raises(DiskSpaceError, match=r"needs 8\.25 GB, but only 0\.01 GB are free"):
        make_checkpoint("koala-1b", tmp_path / "out", progress=lines.append)
    assert not lines
    assert not list(tmp_path.iterdir())


def test_progress_names_the_components(tmp_path):
    lines = []
    make_checkpoint(SMALLEST, tmp_path / "out", narrow=True, progress=lines.append)
    assert [line.split(":")[0] for line in lines] == ["text_encoder", "unet", "vae"]


def test_a_cached_checkpoint_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("KDEXPORT_CACHE", str(tmp_path))
    folder = made_checkpoint(f"{SMALLEST}-narrow")
    before = (folder / "model_index.json").stat().st_mtime_ns
    assert made_checkpoint(f"{SMALLEST}-narrow") == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == before
    assert json.loads((folder / "model_index.json").read_text())["_kdexport_random_weights"] == {
        "model": SMALLEST,
        "narrow": True,
        "seed": 0,
    }
