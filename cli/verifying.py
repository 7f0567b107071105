"""What `kdexport verify` and `kdexport.testing` do alike: a bundle and its reference, found."""

from __future__ import annotations

from pathlib import Path

from ..core.checkpoint import Checkpoint
from ..core.errors import BundleError, OptionError
from ..core.manifest import MANIFEST_NAME, Manifest
from .source import source_options


def load_reference(
    manifest: Manifest,
    against: str | None,
    *,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> Checkpoint:
    """The model that a bundle is compared with.

    Args:
        manifest: Of the bundle.
        against: The model, or None for the one that the bundle was made of.
        revision: Its branch, tag or commit on the Hub; None takes what the manifest says, and of
            a model that the manifest does not name the default branch.
        token: Access token of the Hub, or None for the one that is logged in.
        offline: Use only what the Hub's cache holds.

    Raises:
        CheckpointError: The model cannot be found or understood.
        BundleError: It is the model that the bundle was made of, and has other weights now.
    """
    checkpoint = load_source(manifest, against, revision=revision, token=token, offline=offline)
    if against is None:
        _require_same_weights(manifest, checkpoint)
    return checkpoint


def load_source(
    manifest: Manifest,
    against: str | None,
    *,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> Checkpoint:
    """As `load_reference`, but whatever weights the model has now."""
    from ..export.hub import HubOptions
    from ..export.load import load_checkpoint

    source = manifest.source
    # A commit is of one repository and of no other.
    recorded = source.revision if against in (None, source.model) else None
    hub = HubOptions(revision or recorded, token, offline)
    return load_checkpoint(against or source.model, hub, source_options(manifest, against))


def require_no_bundle(output: Path) -> None:
    """Raises `OptionError` where what a verification writes elsewhere would go into a bundle.

    Its manifest and card would say something else than the new `parity.json`.
    """
    if (output / MANIFEST_NAME).exists():
        raise OptionError(
            f"'{output}' is a bundle, whose manifest and card would not fit the result; name "
            "another folder, or none to write into the bundle that is verified."
        )


def machine() -> dict[str, str]:
    """What ran a verification, for those who read its figures elsewhere."""
    import platform

    from .. import __version__

    return {
        "kdexport": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
    }


def _require_same_weights(manifest: Manifest, checkpoint: Checkpoint) -> None:
    from ..export.weights import weight_hashes

    if weight_hashes(checkpoint) != dict(manifest.source.weights_sha256):
        raise BundleError(
            f"'{checkpoint.model}' now has other weights than the bundle was made of; export "
            "again, or name the reference with --against."
        )
