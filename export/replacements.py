"""What a user puts into a pipeline: another VAE, a ControlNet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import OptionError
from ..core.options import ModelOptions
from .controlnets import (
    CONTROLLED,
    control_source,
    is_controlled,
    require_known_controlnet,
    require_no_control,
)
from .demo import DEMO_DECODERS
from .hub import HubOptions, download
from .json_file import read_json
from .make import made_decoder
from .pipeline_folder import read_part


def read_decoder(decoder: str, hub: HubOptions) -> ComponentSource:
    """A VAE from its own folder or repository, or from the `vae` of a pipeline."""
    if is_made_up(decoder):
        path = made_decoder(decoder.removeprefix("zoo:"))
    else:
        path = DEMO_DECODERS.get(decoder, Path(decoder).expanduser())
    folder = path.resolve()
    if not path.is_dir():
        # The revision is the model's.
        folder, _ = download(decoder, None, hub.token, hub.offline)
    if (folder / "vae").is_dir():
        folder = folder / "vae"
    config = read_json(folder / "config.json", "a VAE")
    return read_part(folder, "vae", "diffusers", str(config.get("_class_name")))


def is_made_up(decoder: str | None) -> bool:
    """Whether a decoder is one of the zoo, whose weights are random."""
    return decoder is not None and decoder.startswith("zoo:")


def with_control(checkpoint: Checkpoint, hub: HubOptions, extra: ModelOptions) -> Checkpoint:
    """The checkpoint with the ControlNet that the user names, if any, and the control settings."""
    components, pipeline_class = dict(checkpoint.components), checkpoint.pipeline_class
    if extra.controlnet is not None:
        # The revision that the user named is the model's.
        revision = hub.revision if extra.controlnet == checkpoint.model else None
        controlnet = replace(hub, revision=revision)
        components["controlnet"] = _read_controlnet(extra.controlnet, controlnet)
        if pipeline_class not in CONTROLLED and not is_controlled(pipeline_class):
            raise OptionError(
                f"'{checkpoint.model}' is a {pipeline_class}, for which diffusers has no pipeline "
                "with a ControlNet; leave out --controlnet."
            )
        pipeline_class = CONTROLLED.get(pipeline_class, pipeline_class)
    if "controlnet" not in components:
        require_no_control(checkpoint.model, extra)
        return checkpoint
    name = extra.controlnet or checkpoint.model
    require_known_controlnet(components["controlnet"].config, name)
    return replace(
        checkpoint,
        components=components,
        pipeline_class=pipeline_class,
        control=control_source(checkpoint, extra),
    )


def _read_controlnet(controlnet: str, hub: HubOptions) -> ComponentSource:
    """A ControlNet from its own folder or repository, or from the `controlnet` of a pipeline."""
    folder = Path(controlnet).expanduser().resolve()
    if not folder.is_dir():
        folder, _ = download(controlnet, hub.revision, hub.token, hub.offline)
    if (folder / "controlnet").is_dir():
        folder = folder / "controlnet"
    config = read_json(folder / "config.json", "a ControlNet")
    return read_part(folder, "controlnet", "diffusers", str(config.get("_class_name")))
