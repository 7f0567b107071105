"""The model zoo: the known distilled models as data, read from `zoo.json`.

To add a model, add a row under `models` in `zoo.json`: the `family` it was distilled from, the
`student` (how the teacher's U-Net was cut) and, under `unet`, whatever else differs. A row may
replace any setting of its family. `text_encoders`, `tokenizers`, `vaes`, `schedulers` and
`students` are shared pieces that rows name; a piece or family with `like` starts from another one.
Hub ids come without a revision. `expected` are figures that the tests recompute from the configs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from ..core.errors import CheckpointError, choices
from .zoo_types import Expected, Piece, ZooEntry

NARROW_SUFFIX = "-narrow"

_SETTINGS = ("text_encoders", "vae", "scheduler", "resolution", "steps", "guidance")
_ROW_KEYS = (
    *("family", "student", "unet", "hub", "licence", "published", "expected", "negative_prompt"),
    *_SETTINGS,
)


@cache
def zoo() -> Mapping[str, ZooEntry]:
    """All models of the zoo, by name; raises `CheckpointError` where `zoo.json` is inconsistent."""
    text = resources.files(__package__).joinpath("zoo.json").read_text(encoding="utf-8")
    return read_zoo(json.loads(text))


def zoo_entry(name: str) -> ZooEntry:
    """The model `name`; raises `CheckpointError` listing the names where there is none."""
    if name not in zoo():
        raise CheckpointError(f"The zoo has no model '{name}'; choose {choices(zoo())}.")
    return zoo()[name]


def zoo_defaults(model: str) -> dict[str, Any]:
    """What the card of a known model recommends.

    Args:
        model: `zoo:NAME`, `zoo:NAME-narrow` or a Hub id.

    Returns:
        `steps`, `guidance` and `negative_prompt`; empty for a model that is not in the zoo.
    """
    named = model.removeprefix("zoo:").removesuffix(NARROW_SUFFIX)
    for entry in zoo().values():
        if model in entry.hub or (model.startswith("zoo:") and named == entry.name):
            return {
                "steps": entry.steps,
                "guidance": entry.guidance,
                "negative_prompt": entry.negative_prompt,
            }
    return {}


def read_zoo(data: Mapping[str, Any]) -> Mapping[str, ZooEntry]:
    """Reads the content of a `zoo.json`; raises `CheckpointError` naming the row that is wrong."""
    entries = {name: _entry(data, name, row) for name, row in data["models"].items()}
    return MappingProxyType(entries)


def _entry(data: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> ZooEntry:
    where = f"models.{name}"
    if unknown := [key for key in row if key not in _ROW_KEYS]:
        raise CheckpointError(f"zoo.json: {where} has '{unknown[0]}'; use {choices(_ROW_KEYS)}.")
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
        pipeline=family["pipeline"],
        hub=tuple(row["hub"]),
        unet=Piece("UNet2DConditionModel", unet, _expected({"unet": row["expected"]})),
        text_encoders=tuple(
            _component(data, "text_encoders", each, f"{where}.text_encoders")
            for each in settings["text_encoders"]
        ),
        vae=_component(data, "vaes", settings["vae"], f"{where}.vae"),
        scheduler=_component(data, "schedulers", settings["scheduler"], f"{where}.scheduler"),
        resolution=settings["resolution"],
        steps=settings["steps"],
        guidance=settings["guidance"],
        negative_prompt=settings.get("negative_prompt"),
        licence=row.get("licence"),
        published=row.get("published", {}),
    )


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
