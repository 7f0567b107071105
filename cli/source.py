"""What a bundle was made with, as options for loading its model again."""

from __future__ import annotations

from ..core.manifest import Manifest
from ..core.options import ModelOptions


def source_options(manifest: Manifest, against: str | None) -> ModelOptions:
    """What a bundle was made with; another reference gets no base, variant or adapters of it."""
    source, control = manifest.source, manifest.control
    own = against is None
    return ModelOptions(
        decoder=source.decoder,
        base=source.base if own else None,
        config=source.config if own else None,
        variant=source.variant if own else None,
        adapters=source.adapters if own else (),
        controlnet=source.controlnet,
        control_scale=control.scale if control else None,
        control_invert=control.invert if control else None,
        clip_skip=source.clip_skip,
    )
