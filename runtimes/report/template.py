"""Pages and cards of one file each, made of the templates in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from .markdown import code, plain


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fills in a template of this folder.

    Args:
        template: Its file name. In HTML text is escaped; in Markdown what others wrote goes
            through the filters `plain` and `code`.
        values: What it names.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(plain=plain, code=code)
    return environment.get_template(template).render(values)
