"""How plans of exports are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..core.folder import megabytes
from .common import print_table

if TYPE_CHECKING:
    from ..export.plan.types import Plan, Stage


def print_plans(plans: Sequence[Plan]) -> None:
    """Prints for each plan its files, what it takes, and what stands in its way."""
    for plan in plans:
        title = f"{plan.command} would write {megabytes(plan.bytes)}"
        if plan.files:
            rows = [[file.path, megabytes(file.bytes), file.what] for file in plan.files]
            print_table(title, ["file", ">size", "what"], rows)
            stages = ", ".join(map(_stage, plan.stages))
            click.echo(f"About {_duration(plan.seconds)} here: {stages}.")
            for each in plan.advice:
                click.echo(each)
        else:
            click.echo(f"{plan.command}:")
        for each in plan.obstacles:
            click.secho(f"Will not work: {each}", fg="red")
        for each in plan.doubts:
            click.secho(f"May not work: {each}", fg="yellow")
        click.echo()
    if plans:
        click.echo("Seconds and memory are estimates, right to about a factor of two.")


def _stage(stage: Stage) -> str:
    return f"{stage.name} {_duration(stage.seconds)} and {megabytes(stage.peak_rss)} of memory"


def _duration(seconds: float) -> str:
    """A time as people say it, no more exact than it is known."""
    if seconds < 90:
        return f"{max(1, round(seconds / 5) * 5)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
