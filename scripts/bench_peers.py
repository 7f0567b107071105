"""Bundles of kdexport beside every other way to draw the same picture, in turns.

diffusers (eager and compiled), optimum-onnx, optimum-intel and stable-diffusion.cpp, each in an
environment of its own, which scripts/bench_peers makes. Peers that export do so once, below
--exports. A peer that fails is a row that says why. Conversion times of Apple's converter are
measured by scripts/coreml_peers.py, those of optimum also by scripts/bench_export.py.

Run: scripts/bench_peers MODEL --bundle BUNDLE [--engine RUNTIME:PROVIDER] [--json FILE] …
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_peers_parts.machine import macs_of, multiply_rates, shares
from bench_peers_parts.peers import PEERS, Export, PeerError, contestant, export
from kdexport.calib.bench_plot import plot_bench
from kdexport.cli.benching import bundle_contestants, read_cores, resolve_drawing
from kdexport.export.load import load_checkpoint
from kdexport.runtimes.bench.alternate import alternate
from kdexport.runtimes.bench.contestant import VARIANTS, Contestant, diffusers_contestant
from kdexport.runtimes.bench.options import Drawing, Effort, usable_cores
from kdexport.runtimes.bench.report import Row, make_rows, to_json
from kdexport.runtimes.bench.table import markdown

_PROMPT = "a golden vase with different flowers"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    known = [*VARIANTS, *PEERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("model", type=Path, help="folder of the diffusers pipeline")
    add("--bundle", type=Path, action="append", required=True, help="a bundle; may be repeated")
    add("--engine", action="append", metavar="RUNTIME[:PROVIDER]", help="what runs the bundles")
    add(
        "--peer",
        action="append",
        choices=known,
        metavar="NAME",
        help=f"of {', '.join(known)}; all if left out",
    )
    add("--prompt", default=_PROMPT)
    add("--steps", type=int, help="the bundle's default if left out")
    add("--guidance", type=float, help="the bundle's default if left out")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="pixels")
    add("--seed", type=int, default=0)
    add("--rounds", type=int, default=3, help="turns of each (default: 3)")
    add("--cold", type=int, default=1, help="turns with empty caches (default: 1)")
    add("--pictures", type=int, default=1, help="timed pictures of a turn (default: 1)")
    add("--threads", type=int, default=usable_cores(), help="of each (default: as many as CPUs)")
    add("--cores", metavar="N[,N...]", help="CPUs to bind them to")
    add("--limit", type=float, default=1800, help="seconds of a turn (default: 1800)")
    add("--exports", type=Path, default=Path("bench-peers"), help="where peers' exports are kept")
    add("--json", type=Path, help="write every figure here")
    add("--markdown", type=Path, help="write the table here")
    add("--plot", type=Path, help="draw the figures to this PNG")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures and reports."""
    options = parse()
    cores = None if options.cores is None else read_cores(options.cores)
    effort = Effort(
        options.rounds, options.cold, options.pictures, options.threads, cores, options.limit
    )
    size = tuple(options.size) if options.size else None
    drawing = resolve_drawing(
        options.bundle[0], options.prompt, options.steps, options.guidance, size, options.seed
    )
    contestants = bundle_contestants(options.bundle, options.engine or (), effort.threads)
    peers, exports, failed = gather(options, effort.threads)
    records = alternate([*contestants, *peers], drawing, effort, say, tolerant=True)
    rows = [*make_rows(records), *failed]
    limit = {"rates": multiply_rates(effort), "macs": macs_of(str(options.model), drawing)}
    limit["shares"] = shares(rows, limit["macs"], limit["rates"])
    report = to_json(rows[: len(records)], records, drawing, effort)
    report |= {"failed": [asdict(row) for row in failed], "machine_limit": limit}
    report["exports"] = [asdict(each) for each in exports]
    text = markdown(rows) + "\n" + about(drawing, effort, limit, exports)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.plot:
        plot_bench(drawing.title, rows, options.plot)


def gather(
    options: argparse.Namespace, threads: int
) -> tuple[list[Contestant], list[Export], list[Row]]:
    """Peers that can draw, what their exports took, and a row for each that cannot."""
    checkpoint = load_checkpoint(str(options.model))
    ready: list[Contestant] = []
    exports: dict[str, Export] = {}
    failed: list[Row] = []
    for name in options.peer or [*VARIANTS, *PEERS]:
        if name in VARIANTS:
            ready.append(diffusers_contestant(checkpoint, name, threads))
            continue
        peer, folder = PEERS[name], options.model
        try:
            if peer.exported:
                say(f"export for {name}", 0.0)
                folder = options.exports / f"{options.model.name}-{Path(peer.program).stem}"
                exports[peer.program] = export(peer, options.model.absolute(), folder.absolute())
            ready.append(contestant(name, folder.absolute(), threads))
        except PeerError as error:
            failed.append(Row(name, error=f"failed: {error}"))
    return ready, list(exports.values()), failed


def about(drawing: Drawing, effort: Effort, limit: dict[str, Any], exports: list[Export]) -> str:
    """What the table is of, and the limit of the machine, in a few lines."""
    rates, total = limit["rates"], sum(limit["macs"].values())
    least = total / rates["float32"]
    lines = [
        f"{drawing.title}; {effort.threads} threads, {effort.rounds} rounds.",
        f"A picture takes {total / 1e9:.0f} G multiply-accumulates in convolutions and linear "
        f"layers; here a large matrix product does {rates['float32'] / 1e9:.0f} G per second in"
        f" float32 and {rates['bfloat16'] / 1e9:.0f} G in bfloat16: {least:.2f} s and"
        f" {total / rates['bfloat16']:.2f} s for the picture.",
        *(f"- {name}: {share:.0%} of the float32 rate" for name, share in limit["shares"].items()),
        *(
            f"- export, {each.peer}: {each.seconds:.0f} s, {each.peak_rss / 1e9:.1f} GB, "
            f"{each.bytes / 1e9:.2f} GB on disk"
            for each in exports
        ),
    ]
    return "\n".join(lines) + "\n"


def say(what: str, share: float) -> None:
    """Says what is done."""
    print(f"{what}, {share:.0%}", flush=True)


if __name__ == "__main__":
    main()
