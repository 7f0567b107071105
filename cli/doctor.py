"""`kdexport doctor`: what is installed, what works here, and what else there is."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from .. import __version__
from ..core.errors import DependencyError, choices
from ..core.folder import megabytes, user_cache
from ..core.installation import EXTRAS, Finding, find_extra
from ..core.options import require_choice
from .common import json_option, print_json, print_table
from .progress import progress

_COLOURS = {"works": "green", "missing": "yellow"}


@click.command(short_help="Show what is installed, and what works here.")
@click.option(
    "--require",
    "required",
    multiple=True,
    metavar="EXTRA",
    help="End with status 1 unless this extra works; may be repeated.",
)
@json_option
def doctor(required: tuple[str, ...], as_json: bool) -> None:
    """Show what is installed, which extras work, and what each missing one would enable."""
    for each in required:
        require_choice(each, EXTRAS, "extra")
    findings = []
    with progress(quiet=as_json) as report:
        for name in EXTRAS:
            report(f"trying {name}", 0.0)
            findings.append(find_extra(name))
    here = _machine()
    if as_json:
        extras = {each.extra: asdict(each) for each in findings}
        print_json({"kdexport": __version__, "machine": here, "extras": extras})
    else:
        _print(findings, here)
    broken = [each for each in findings if each.extra in required and not each.works]
    if broken:
        raise DependencyError(
            f"{choices(each.extra for each in broken).replace(' or ', ' and ')} "
            f"{'does' if len(broken) == 1 else 'do'} not work here: "
            f"{'; '.join(f'{each.detail}, run {each.install}' for each in broken)}."
        )


def _print(findings: Sequence[Finding], here: dict[str, Any]) -> None:
    rows = [
        [each.extra, f"[{_colour(each)}]{each.state}[/]", escape(each.detail), each.enables]
        for each in findings
    ]
    print_table(f"kdexport {__version__}", ["extra", "", "found", "what it enables"], rows)
    versions = {name: version for each in findings for name, version in each.versions.items()}
    for what, value in here.items():
        click.echo(f"{what}: {value}")
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    width = shutil.get_terminal_size().columns
    click.echo(click.wrap_text(f"packages: {named}", width, subsequent_indent="  "))
    for each in findings:
        if not each.works:
            click.echo(f"{each.install}  # {each.enables}")


def _colour(finding: Finding) -> str:
    return _COLOURS.get(finding.state, "red")


def _machine() -> dict[str, Any]:
    from ..export.memory import free_memory
    from ..runtimes.ort_threads import granted_threads

    cache, free = user_cache(), free_memory()
    threads = granted_threads()
    granted = "" if threads is None else f", {threads} threads granted"
    return {
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "processors": f"{os.cpu_count()}{granted}",
        "free memory": "not known" if free is None else megabytes(free),
        "cache": f"{cache} ({megabytes(_size(cache))})",
        "Hub": "offline (HF_HUB_OFFLINE)" if os.environ.get("HF_HUB_OFFLINE") else "allowed",
    }


def _size(folder: Path) -> int:
    """Bytes of what is in a folder; what another program deletes meanwhile is not counted."""
    total = 0
    for each in folder.rglob("*"):
        with suppress(OSError):
            total += each.stat().st_size if each.is_file() else 0
    return total
