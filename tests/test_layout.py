"""The house rules of imports: their direction, and what may load torch or an optional package."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Room to the rooms that it may import beside itself.
ROOMS = {
    "core": set(),
    "export": {"core"},
    "runtimes": {"core"},
    "calib": {"core", "runtimes"},
    "cli": {"core", "export", "runtimes", "calib"},
}
# What every module of a room needs; whoever imports the room does so inside functions.
ROOM_NEEDS = {"calib": {"scipy"}}
CORE_MAY = {"numpy", "jsonschema"}
TORCH = {"torch", "diffusers", "transformers", "accelerate", "safetensors"}
# The reference is diffusers itself; the Core ML interpreter computes with torch.
TORCH_MODULES = {
    "calib/gradients.py",
    "calib/islands.py",
    "calib/loop.py",
    "calib/ranges.py",
    "calib/sensitivity.py",
    "calib/simulate.py",
    "runtimes/bench/torch_worker.py",
    "runtimes/torch_epsilon.py",
    "runtimes/torch_lora.py",
    "runtimes/torch_pipeline.py",
    "runtimes/torch_recording.py",
    "runtimes/torch_ref.py",
    "runtimes/torch_single_file.py",
}
TORCH_FOLDERS = ("runtimes/mil/",)
# What these need is loaded by whoever imports them, so that is done inside functions.
HEAVY_MODULES = {
    "kdexport.calib.budget",
    "kdexport.calib.gradients",
    "kdexport.calib.islands",
    "kdexport.calib.loop",
    "kdexport.calib.ranges",
    "kdexport.calib.sensitivity",
    "kdexport.calib.simulate",
    "kdexport.runtimes.as_exported",
    "kdexport.runtimes.mil",
    "kdexport.runtimes.torch_epsilon",
    "kdexport.runtimes.torch_lora",
    "kdexport.runtimes.torch_pipeline",
    "kdexport.runtimes.torch_recording",
    "kdexport.runtimes.torch_ref",
    "kdexport.runtimes.verify",
}
# These load torch themselves.
HEAVY_FILES = {
    "calib/budget.py",
    "calib/gradients.py",
    "calib/islands.py",
    "calib/loop.py",
    "calib/ranges.py",
    "calib/sensitivity.py",
    "calib/simulate.py",
    "runtimes/as_exported.py",
    "runtimes/torch_epsilon.py",
    "runtimes/torch_ref.py",
    "runtimes/verify.py",
}
IMPORT_NAMES = {"pillow": "PIL"}


@dataclass(frozen=True)
class Import:
    """One imported name, `eager` where it is loaded as soon as its module is."""

    file: str
    line: int
    name: str
    eager: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"

    @property
    def room(self) -> str:
        return self.file.split("/")[0] if "/" in self.file else ""


def modules(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("*.py"))
    for room in ROOMS:
        yield from sorted((root / room).rglob("*.py"))


def imports(root: Path, file: Path) -> Iterator[Import]:
    path = file.relative_to(root).as_posix()
    package = ["kdexport", *file.relative_to(root).parts[:-1]]

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, eager)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            for alias in node.names:
                yield Import(path, node.lineno, ".".join([*base, alias.name]), eager)
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        lazy |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, eager and not lazy)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), True)


def violations(root: Path) -> list[str]:
    found = []
    for file in modules(root):
        for each in imports(root, file):
            parts = each.name.split(".")
            ours = parts[0] == "kdexport"
            found += [f"{each}: {why}" for why in (_ours if ours else _third)(each, parts) if why]
    for file in [*root.glob("tests/**/*.py"), *root.glob("scripts/**/*.py")]:
        for each in imports(root, file):
            if each.name.split(".")[0] in ROOMS:
                found.append(f"{each}: bare room name")
    return found


def _ours(each: Import, parts: list[str]) -> Iterator[str]:
    target = parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""
    if target and each.room and target not in ROOMS[each.room] | {each.room}:
        yield f"{each.room} must not import {target}"
    if each.eager and target and each.file == "__init__.py":
        yield "the package itself stays light"
    if each.eager and each.room == "cli" and target not in {"", "core", "cli"}:
        yield "the command line imports rooms inside its commands"
    heavy = ".".join(parts[:3]) in HEAVY_MODULES
    free = each.file in HEAVY_FILES or each.file.startswith(TORCH_FOLDERS)
    allowed = free and parts[2] != "verify"
    if each.eager and heavy and not allowed:
        yield "loads torch, so it is imported inside functions only"


def _third(each: Import, parts: list[str]) -> Iterator[str]:
    if parts[0] in ROOMS:
        yield "bare room name; import relatively"
    if parts[0] in sys.stdlib_module_names:
        return
    if each.room == "core" and parts[0] not in CORE_MAY:
        yield f"core uses {' and '.join(sorted(CORE_MAY))} only"
    free = each.room == "export" or each.file in TORCH_MODULES
    free |= each.file.startswith(TORCH_FOLDERS)
    if each.room == "runtimes" and parts[0] in TORCH and not free:
        yield "a bundle runs without torch"
    needed = base_dependencies() | ROOM_NEEDS.get(each.room, set())
    if each.eager and not free and parts[0] not in needed:
        yield "an optional package, so it is imported inside functions only"


def base_dependencies() -> set[str]:
    names = {re.split(r"[<>=!~;\[ ]", each)[0] for each in PYPROJECT["project"]["dependencies"]}
    return {IMPORT_NAMES.get(name, name) for name in names}


def test_imports() -> None:
    assert sum(1 for _ in modules(ROOT)) > 20
    assert not violations(ROOT)


@pytest.mark.parametrize(
    ("file", "code", "why"),
    [
        ("core/a.py", "from ..runtimes import base", "core must not import runtimes"),
        ("core/a.py", "def f():\n    import PIL", "core uses"),
        ("export/a.py", "from ..runtimes.sampler import Stepper", "export must not import"),
        ("export/passes/a.py", "from ...runtimes import ort", "export must not import runtimes"),
        ("runtimes/a.py", "def f():\n    from ..export import load", "runtimes must not import"),
        ("runtimes/a.py", "def f():\n    import torch.nn", "a bundle runs without torch"),
        ("runtimes/a.py", "import onnxruntime", "an optional package"),
        ("runtimes/a.py", "from .verify import verify_bundle", "loads torch"),
        ("runtimes/a.py", "from . import torch_ref", "loads torch"),
        ("calib/a.py", "from ..export.load import load_checkpoint", "calib must not import"),
        ("calib/a.py", "import onnxruntime", "an optional package"),
        ("runtimes/a.py", "import scipy", "an optional package"),
        ("cli/a.py", "from ..calib.world.score import judge", "inside its commands"),
        ("cli/a.py", "from ..runtimes.request import Request", "inside its commands"),
        ("cli/a.py", "try:\n    import torch\nexcept ImportError: ...", "an optional package"),
        ("export/a.py", "import core.errors", "bare room name"),
        ("tests/test_a.py", "from core.errors import KdexportError", "bare room name"),
        ("__init__.py", "from .runtimes.pipeline import Pipeline", "stays light"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, file: str, code: str, why: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")
    assert [each for each in violations(tmp_path) if why in each]
