"""Pages of one file each, made of templates that share a style sheet."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fills in a template of this folder.

    Args:
        template: Its file name.
        values: What it names; text is escaped.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
