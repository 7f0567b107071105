"""What the commands share: options, tables, JSON."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

import click
from rich.console import Console
from rich.table import Table

from ..core.errors import DependencyError

if TYPE_CHECKING:
    from ..core.parity import ParityRecord

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(file_okay=True, path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
provider_option = click.option(
    "--provider",
    help="What it runs on: cpu, cuda, tensorrt, nv_tensorrt_rtx, …, of OpenVINO cpu-bf16, "
    "cpu-mixed, gpu, …; the CPU where left out, of TensorRT engines the first GPU.",
)
runtime_option = click.option(
    "--runtime",
    help="What runs the bundle: onnxruntime, openvino, tensorrt-rtx, tensorrt, mil or coreml; its "
    "own where left out.",
)


def hub_options(command: F) -> F:
    """Adds `--revision`, `--token` and `--offline`."""
    for option in (
        click.option("--offline", is_flag=True, help="Use only what the Hub's cache holds."),
        click.option("--token", envvar="HF_TOKEN", help="Access token of the Hub."),
        click.option("--revision", help="Branch, tag or commit of the Hub repository."),
    ):
        command = option(command)
    return command


def model_options(command: F) -> F:
    """Adds the options that say what a model consists of, fields of `ModelOptions`."""
    for option in (
        click.option(
            "--controlnet", help="A ControlNet to draw after pictures: a folder or Hub id."
        ),
        click.option("--variant", help="Variant of the weight files, such as fp16."),
        click.option(
            "--config",
            help="What a single-file checkpoint looks like: a folder, a Hub id, or zoo:NAME.",
        ),
        click.option(
            "--base",
            help="The pipeline that completes a U-Net or single file: a folder or Hub id.",
        ),
        click.option("--decoder", help="Another VAE: a folder, a Hub id, zoo:NAME or demo-tiny."),
    ):
        command = option(command)
    return command


def verify_options(command: F) -> F:
    """Adds `--verify-steps` and `--verify-size`."""
    for option in (
        click.option(
            "--verify-size",
            type=(int, int),
            metavar="H W",
            help="Image size of the comparison; the bundle's default size if left out.",
        ),
        click.option(
            "--verify-steps",
            type=click.IntRange(min=1),
            default=4,
            show_default=True,
            help="Denoising steps of the comparison.",
        ),
    ):
        command = option(command)
    return command


def show_warnings(shown: type[Warning]) -> None:
    """Shows warnings of the class `shown` on standard error as a line each, others as before."""
    others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, shown):
            click.secho(f"Warning: {message}", fg="yellow", err=True)
        else:
            others(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    # Also where an earlier command of this process has said the same.
    warnings.simplefilter("always", shown)


def print_json(data: Any) -> None:
    """Prints JSON on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table on standard output; a column named `>name` is aligned to the right."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.removeprefix(">"), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width; rich would otherwise squeeze everything into 80 columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_parity(record: ParityRecord) -> None:
    """Prints the parity figures: a row per role, output and case, and one per run."""
    rows = [
        [
            f"{check.role} {check.output}",
            check.case,
            f"{check.difference.relative_l2:.1e}",
            _decibels(check.difference.psnr_db),
            check.gate,
            _verdict(check.passed),
        ]
        for check in record.components
        # Hidden states and residuals by the dozen say nothing more, unless one of them fails.
        if not check.output.startswith(("hidden_states", "down_block_residual")) or not check.passed
    ]
    for run in record.runs:
        if run.steps:
            worst = min(run.steps, key=lambda step: step.difference.psnr_db)
            rows.append(
                [
                    f"latents, worst call ({worst.index + 1})",
                    run.case,
                    f"{worst.difference.relative_l2:.1e}",
                    _decibels(worst.difference.psnr_db),
                    "",
                    "",
                ]
            )
        found = run.broken or ", ".join(_decibels(each.psnr_db) for each in run.images)
        rows.append(["8-bit image", run.case, "", found, run.gate, _verdict(run.passed)])
    columns = ["what", "at", ">relative L2", ">PSNR dB", "gate", ""]
    print_table("Parity with diffusers in float32", columns, rows)
    if "bfloat16" in record.runtime:
        click.echo(f"Computed on the CPU as {record.runtime['bfloat16']}.")
    if record.runtime.get("precision", "fp32") != "fp32":
        click.echo(f"Computed in {record.runtime['precision']}.")


def require_export() -> None:
    """Raises `DependencyError` where the packages that exporting needs are not installed."""
    console = Console(stderr=True)
    # Seconds, of which a terminal should say what they are for.
    with console.status("loading torch and diffusers") if console.is_terminal else nullcontext():
        try:
            import diffusers
            import onnxscript  # noqa: F401
            import torch  # noqa: F401
            import transformers
        except ImportError as error:
            raise DependencyError(
                f"This command needs the package '{error.name}'; run "
                "pip install 'kdexport[export,cpu]'."
            ) from error
    # Their bars for loading weights would tear up ours.
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _decibels(value: float) -> str:
    return "equal" if value == math.inf else f"{value:.1f}"


def _verdict(passed: bool) -> str:
    return "[green]ok[/green]" if passed else "[red]FAILED[/red]"
