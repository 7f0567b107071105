"""`kdexport push`: a bundle to a repository of the Hugging Face Hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.folder import megabytes
from ..core.manifest import CARD_NAME
from .common import FOLDER, json_option, print_json, print_table
from .progress import progress

if TYPE_CHECKING:
    from ..runtimes.publish import Push, Pushed


@click.command(short_help="Publish BUNDLE on the Hugging Face Hub.")
@click.argument("bundle", type=FOLDER)
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repository one that only its owner sees.")
@click.option("--revision", help="Branch to commit to; made where it is missing.")
@click.option("--token", envvar="HF_TOKEN", help="Access token of the Hub, one that may write.")
@click.option(
    "--unverified",
    is_flag=True,
    help="Also a bundle that was not compared with diffusers, or failed.",
)
@click.option("--random-weights", is_flag=True, help="Also a bundle whose weights are made up.")
@click.option("--dry-run", is_flag=True, help="List what would be sent, and send nothing.")
@json_option
def push(
    bundle: Path,
    repository: str,
    private: bool,
    revision: str | None,
    token: str | None,
    unverified: bool,
    random_weights: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish BUNDLE as the repository OWNER/NAME of the Hugging Face Hub.

    Every file is compared with the manifest first. The repository is made where it is missing; the
    files are sent in one commit, those that it holds already are not sent again. The commands in
    its model card name the repository. Others then draw with `kdexport run OWNER/NAME PROMPT`.
    """
    from ..runtimes.publish import PushOptions, prepare_push, push_bundle

    options = PushOptions(
        repository=repository,
        private=private,
        revision=revision,
        unverified=unverified,
        random_weights=random_weights,
    )
    with progress(quiet=as_json) as report:
        report("checking files", 0.0)
        prepared = prepare_push(bundle, options)
    if CARD_NAME not in prepared.files:
        click.echo(
            f"'{bundle}' has no model card, so the repository gets none; `kdexport verify` writes "
            "one.",
            err=True,
        )
    pushed = None if dry_run else push_bundle(prepared, token=token, quiet=as_json)
    if as_json:
        print_json(_to_json(prepared, pushed))
    elif pushed is None:
        _print_files(prepared)
    else:
        total = megabytes(sum(prepared.files.values()))
        click.echo(f"{len(prepared.files)} files ({total}) are at {pushed.url}")
        branch = "" if revision is None else f" --revision {shlex.quote(revision)}"
        click.echo(f'Draw with: kdexport run {repository} "a prompt"{branch}')


def _print_files(prepared: Push) -> None:
    rows = [[name, megabytes(size)] for name, size in prepared.files.items()]
    rows.append(["all", megabytes(sum(prepared.files.values()))])
    title = f"Would be sent to {prepared.options.repository}: {prepared.message}"
    print_table(title, ["file", ">size"], rows)


def _to_json(prepared: Push, pushed: Pushed | None) -> dict[str, Any]:
    return {
        "repository": prepared.options.repository,
        "revision": prepared.options.revision,
        "url": pushed.url if pushed else None,
        "commit": pushed.commit if pushed else None,
        "message": prepared.message,
        "files": prepared.files,
        "bytes": sum(prepared.files.values()),
    }
