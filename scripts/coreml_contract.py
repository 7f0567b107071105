"""Holds the packages of Core ML bundles against what Apple's Swift library reads and feeds.

    python scripts/coreml_contract.py BUNDLE...

Prints a table of every input and output, read from the packages themselves, beside the contract of
apple/ml-stable-diffusion at e12202c (torch2coreml.py and the Swift sources), which is written down
here on its own, not taken from the exporter. Ends with status 1 where they differ.

In the contract `2` is also met by 1 (a U-Net for models without guidance), C, N and T are numbers
of the model, h and w the size in latent cells, H and W in pixels.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

FLOAT16, FLOAT32 = "float16", "float32"
_DTYPES = {65552: FLOAT16, 65568: FLOAT32, 131104: "int32"}

_LOOP = {
    "sample": (FLOAT16, "2 N h w"),
    "timestep": (FLOAT16, "2"),
    "encoder_hidden_states": (FLOAT16, "2 C 1 T"),
}
_XL = {"time_ids": (FLOAT16, "2 6"), "text_embeds": (FLOAT16, "2 C")}
_RESIDUALS = {r"additional_residual_\d+": "2 C h w"}

# Package to inputs and outputs: name to type and shape. A name is a regular expression; what ends
# in `?` need not be there: SDXL's conditions, the guidance of latent consistency models (which
# Apple's library does not know), and the second hidden state of clip-skip, which it does not read.
_EXTRA = {f"{name}?": each for name, each in _XL.items()} | {"timestep_cond?": (FLOAT16, "2 C")}
_NOISE = {"noise_pred": (FLOAT32, "2 N h w")}
_TEXT = (
    {"input_ids": (FLOAT32, "1 T")},
    {
        "last_hidden_state|hidden_embeds": (FLOAT32, "1 T C"),
        "pooled_outputs": (FLOAT32, "1 C"),
        "unskipped_.*?": (FLOAT32, "1 T C"),
    },
)
CONTRACT: dict[str, tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]] = {
    "TextEncoder": _TEXT,
    "TextEncoder2": _TEXT,
    "Unet": ({**_LOOP, **_EXTRA}, _NOISE),
    "ControlledUnet": (
        {**_LOOP, **_EXTRA, **{name: (FLOAT16, size) for name, size in _RESIDUALS.items()}},
        _NOISE,
    ),
    "controlnet/ControlNet": (
        {**_LOOP, **_EXTRA, "controlnet_cond": (FLOAT16, "2 3 H W")},
        {name: (FLOAT32, size) for name, size in _RESIDUALS.items()},
    ),
    "VAEDecoder": ({"z": (f"{FLOAT16}|{FLOAT32}", "1 N h w")}, {"image": (FLOAT32, "1 3 H W")}),
    "VAEEncoder": ({"x": (f"{FLOAT16}|{FLOAT32}", "1 3 H W")}, {"latent": (FLOAT32, "1 N h w")}),
}
# The library reads the first output of these, whatever its name.
_ONE_OUTPUT = ("Unet", "ControlledUnet", "VAEDecoder", "VAEEncoder")


@dataclass(frozen=True)
class Row:
    """One input or output beside the contract; `problem` is empty where they agree."""

    package: str
    kind: str
    name: str
    found: str
    contract: str
    problem: str


@click.command(help=__doc__)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(bundles: tuple[Path, ...]) -> None:
    """Prints the table of each bundle."""
    good = True
    for bundle in bundles:
        rows = list(_rows(bundle))
        source = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["source"]
        click.echo(f"### {source['model']}\n")
        click.echo("| package | | name | found | Apple's contract | |\n|---|---|---|---|---|---|")
        for row in rows:
            verdict = row.problem or "ok"
            cells = (row.package, row.kind, row.name, row.found, row.contract, verdict)
            click.echo(f"| {' | '.join(cells)} |")
        click.echo()
        good &= not any(row.problem for row in rows)
    sys.exit(0 if good else 1)


def _rows(bundle: Path) -> Iterator[Row]:
    packages = sorted(bundle.rglob("*.mlpackage"))
    if not packages:
        raise click.ClickException(f"'{bundle}' holds no .mlpackage.")
    chunks = [each for each in packages if "Chunk" in each.name]
    for package in packages:
        name = package.relative_to(bundle).as_posix().removesuffix(".mlpackage")
        about = _description(package)
        if package in chunks:
            continue
        yield from _held(name, "input", _features(about.input))
        yield from _held(name, "output", _features(about.output))
    if chunks:
        name = chunks[0].name.split("Chunk")[0]
        yield from _chunked(name, [_description(each) for each in chunks])


def _chunked(name: str, chunks: list[Any]) -> Iterator[Row]:
    """Two chunks together take and give what the whole does; tensors between them are free."""
    outputs = [_features(each.output) for each in chunks]
    inputs: dict[str, tuple[str, tuple[int, ...]]] = {}
    for index, each in enumerate(chunks):
        made = {key for earlier in outputs[:index] for key in earlier}
        inputs |= {key: value for key, value in _features(each.input).items() if key not in made}
    yield from _held(name, "input", inputs)
    yield from _held(name, "output", outputs[-1])


def _held(package: str, kind: str, found: dict[str, tuple[str, tuple[int, ...]]]) -> Iterator[Row]:
    contract = CONTRACT[package][kind == "output"]
    matched = set()
    for name, (dtype, shape) in found.items():
        said = f"{dtype} ({', '.join(map(str, shape))})"
        key = next((each for each in contract if _matches(each, name)), None)
        if key is None:
            yield Row(package, kind, name, said, "", "not in the contract")
            continue
        matched.add(key)
        wanted_dtype, wanted = contract[key]
        fits = re.fullmatch(wanted_dtype, dtype) and _fits(wanted.split(), shape)
        asked = f"{wanted_dtype.replace('|', ' or ')} ({', '.join(wanted.split())})"
        yield Row(package, kind, name, said, asked, "" if fits else "differs")
    for key in contract:
        if key not in matched and not key.endswith("?"):
            yield Row(package, kind, key, "", contract[key][1], "missing")
    if kind == "output" and package in _ONE_OUTPUT and len(found) != 1:
        yield Row(package, kind, "", f"{len(found)} outputs", "1 output", "differs")


def _matches(key: str, name: str) -> bool:
    return bool(re.fullmatch(key.removesuffix("?"), name))


def _fits(wanted: list[str], shape: tuple[int, ...]) -> bool:
    def fits(size: str, there: int) -> bool:
        return there in (1, 2) if size == "2" else not size.isdigit() or int(size) == there

    return len(wanted) == len(shape) and all(map(fits, wanted, shape))


def _description(package: Path) -> Any:
    from coremltools.models.utils import load_spec

    return load_spec(str(package)).description


def _features(features: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    arrays = {each.name: each.type.multiArrayType for each in features}
    return {
        name: (_DTYPES.get(array.dataType, "?"), tuple(int(size) for size in array.shape))
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    main()
