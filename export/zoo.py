"""The model zoo: the known distilled models as data, read from `zoo.json`.

To add a model, add a row under `models` in `zoo.json`: the `family` it was distilled from, the
`student` (how the teacher's U-Net was cut) and, under `unet`, whatever else differs. A row may
replace any setting of its family. `text_encoders`, `tokenizers`, `vaes`, `schedulers`, `students`
and `controlnets` are shared pieces that rows name; whatever has `like` starts from another one. A
row whose repository holds a part only names the `base` (and `decoder`) that complete it.
Hub ids come without a revision. `expected` are figures that the tests recompute from the configs.
`scheduler` is what the checkpoint ships; `scheduler_overrides` is what its card changes about it.
`decoders` are the autoencoders that `--decoder zoo:NAME` swaps in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from ..core.errors import CheckpointError, choices
from .zoo_types import AdapterPiece, ControlCard, Decoder, Expected, Piece, ZooEntry

NARROW_SUFFIX = "-narrow"

_SETTINGS = ("text_encoders", "vae", "scheduler", "resolution", "steps", "guidance")
_ROW_KEYS = (
    *("like", "family", "student", "pipeline", "unet", "hub", "base", "decoder", "adapter"),
    *("controlnet", "licence", "published", "expected", "negative_prompt", "scheduler_overrides"),
    *_SETTINGS,
)


@cache
def zoo() -> Mapping[str, ZooEntry]:
    """All models of the zoo, by name; raises `CheckpointError` where `zoo.json` is inconsistent."""
    return read_zoo(_data())


@cache
def zoo_decoders() -> Mapping[str, Decoder]:
    """All decoders of the zoo, by name; raises `CheckpointError` as `zoo` does."""
    return read_decoders(_data())


def zoo_entry(name: str) -> ZooEntry:
    """The model `name`; raises `CheckpointError` listing the names where there is none."""
    if name not in zoo():
        raise CheckpointError(f"The zoo has no model '{name}'; choose {choices(zoo())}.")
    return zoo()[name]


def zoo_decoder(name: str) -> Decoder:
    """The decoder `name`; raises `CheckpointError` listing the names where there is none."""
    if name not in zoo_decoders():
        names = choices(zoo_decoders())
        raise CheckpointError(f"The zoo has no decoder '{name}'; choose {names}.")
    return zoo_decoders()[name]


def zoo_match(model: str) -> ZooEntry | None:
    """The entry of a model that the user named, or None where the zoo does not know it.

    Args:
        model: `zoo:NAME`, `zoo:NAME-narrow` or a Hub id.
    """
    named = model.removeprefix("zoo:").removesuffix(NARROW_SUFFIX)
    for entry in zoo().values():
        if model in entry.hub or (model.startswith("zoo:") and named == entry.name):
            return entry
    return None


def read_zoo(data: Mapping[str, Any]) -> Mapping[str, ZooEntry]:
    """Reads the content of a `zoo.json`; raises `CheckpointError` naming the row that is wrong."""
    entries = {name: _entry(data, name, row) for name, row in data["models"].items()}
    return MappingProxyType(entries)


def read_decoders(data: Mapping[str, Any]) -> Mapping[str, Decoder]:
    """Reads the `decoders` of a `zoo.json`; raises `CheckpointError` naming what is wrong."""
    decoders = {
        name: Decoder(
            name=name,
            hub=tuple(row["hub"]),
            vae=_component(data, "vaes", row["vae"], f"decoders.{name}.vae"),
            suits=row["for"],
        )
        for name, row in data["decoders"].items()
    }
    return MappingProxyType(decoders)


def _data() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("zoo.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def _entry(data: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> ZooEntry:
    where = f"models.{name}"
    if unknown := [key for key in row if key not in _ROW_KEYS]:
        raise CheckpointError(f"zoo.json: {where} has '{unknown[0]}'; use {choices(_ROW_KEYS)}.")
    row = _piece(data, "models", name, where)
    family_name = row.get("family", "")
    family = _piece(data, "families", family_name, f"{where}.family")
    cut = _piece(data, "students", row["student"], f"{where}.student") if "student" in row else {}
    settings = {**family, **row}
    if missing := [key for key in (*_SETTINGS, "hub", "expected") if key not in settings]:
        raise CheckpointError(f"zoo.json: {where} and its family lack '{missing[0]}'; add it.")
    unet = {**family["unet"], **cut, **row.get("unet", {})}
    return ZooEntry(
        name=name,
        family=family_name,
        pipeline=settings["pipeline"],
        hub=tuple(row["hub"]),
        base=row.get("base"),
        decoder=row.get("decoder"),
        unet=Piece("UNet2DConditionModel", unet, _expected({"unet": row["expected"]})),
        text_encoders=tuple(
            _component(data, "text_encoders", each, f"{where}.text_encoders")
            for each in settings["text_encoders"]
        ),
        vae=_component(data, "vaes", settings["vae"], f"{where}.vae"),
        scheduler=_component(data, "schedulers", settings["scheduler"], f"{where}.scheduler"),
        scheduler_overrides=row.get("scheduler_overrides", {}),
        resolution=settings["resolution"],
        steps=settings["steps"],
        guidance=settings["guidance"],
        negative_prompt=settings.get("negative_prompt"),
        licence=row.get("licence"),
        adapter=AdapterPiece(**row["adapter"]) if "adapter" in row else None,
        controlnet=_control(data, row["controlnet"], where) if "controlnet" in row else None,
        published=row.get("published", {}),
    )


def _control(data: Mapping[str, Any], name: str, where: str) -> ControlCard:
    row = _piece(data, "controlnets", name, f"{where}.controlnet")
    net = _component(data, "controlnets", name, f"{where}.controlnet")
    return ControlCard(row["scale"], row["invert"], net)


def _component(data: Mapping[str, Any], section: str, name: str, where: str) -> Piece:
    piece = _piece(data, section, name, where)
    pad = None
    if "tokenizer" in piece:
        spot = f"{section}.{name}.tokenizer"
        pad = _piece(data, "tokenizers", piece["tokenizer"], spot)["pad_token"]
    return Piece(piece["class"], piece["config"], _expected(piece.get("expected", {})), pad)


def _expected(figures: Mapping[str, Any]) -> dict[str, Expected]:
    return {
        part: Expected(each["parameters"], {int(size): n for size, n in each["macs"].items()})
        for part, each in figures.items()
    }


def _piece(data: Mapping[str, Any], section: str, name: str, where: str) -> dict[str, Any]:
    """A shared piece; where it is `like` another one, its objects are laid over that one's."""
    if name not in data[section]:
        names = choices(data[section])
        raise CheckpointError(f"zoo.json: {where} is '{name}', not in {section}; use {names}.")
    piece = dict(data[section][name])
    if "like" not in piece:
        return piece
    base = _piece(data, section, piece.pop("like"), f"{section}.{name}.like")
    merged = {
        key: {**base[key], **value} if isinstance(value, dict) and key in base else value
        for key, value in piece.items()
    }
    return {**base, **merged}
