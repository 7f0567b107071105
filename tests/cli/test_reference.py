"""Which model a bundle is compared with, out of a cache of the Hub."""

from dataclasses import replace

import pytest
from huggingface_hub import constants
from kdexport.cli.benching import diffusers_contestants
from kdexport.cli.verifying import load_reference, load_source
from kdexport.core.errors import BundleError, CheckpointError
from kdexport.core.manifest import load_manifest, save_manifest

OWN, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def manifest(micro_pipeline, micro_bundle, tmp_path, monkeypatch):
    """Of a bundle made of a commit of me/model, which is in the cache as me/other is."""
    cache = tmp_path / "hf"
    for name, commit in (("model", OWN), ("other", OTHER)):
        root = cache / f"models--me--{name}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)
        (root / "snapshots").mkdir()
        (root / "snapshots" / commit).symlink_to(micro_pipeline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    made = load_manifest(micro_bundle)
    return replace(made, source=replace(made.source, model="me/model", revision=OWN))


@pytest.mark.parametrize(
    ("against", "commit"), [(None, OWN), ("me/model", OWN), ("me/other", OTHER)]
)
def test_the_commit_of_a_reference(manifest, against, commit):
    assert load_reference(manifest, against, offline=True).revision == commit


def test_a_revision_goes_first(manifest):
    assert load_source(manifest, None, revision="main", offline=True).revision == OWN
    with pytest.raises(CheckpointError, match="is not in the local cache"):
        load_reference(manifest, None, revision="v2", offline=True)


def test_other_weights_are_no_reference(manifest):
    weights = dict.fromkeys(manifest.source.weights_sha256, "0" * 64)
    changed = replace(manifest, source=replace(manifest.source, weights_sha256=weights))
    with pytest.raises(BundleError, match="now has other weights"):
        load_reference(changed, None, offline=True)
    # How fast they draw is another question.
    assert load_source(changed, None, offline=True).revision == OWN


def test_a_peer_of_another_repository(manifest, tmp_path):
    (tmp_path / "bundle").mkdir()
    save_manifest(manifest, tmp_path / "bundle")
    hub = (None, None, True)
    (peer,) = diffusers_contestants(["diffusers"], tmp_path / "bundle", "me/other", hub, 1)
    assert peer.name == "diffusers"
