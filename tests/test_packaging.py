"""What an installation holds, and how little of it an import loads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OUTSIDE = {"tests", "scripts", "docs", "swift_demo", "build", "dist"}
# These compare with diffusers or compute with torch; everything else in `runtimes` runs bundles.
NEED_TORCH = {
    *("as_exported", "mil", "verify"),
    *("torch_epsilon", "torch_lora", "torch_pipeline", "torch_recording", "torch_ref"),
    "torch_single_file",
}
HEAVY = {"torch", "diffusers", "transformers", "numpy", "onnx", "onnxruntime", "PIL", "tokenizers"}


def folders() -> list[Path]:
    """Every folder of the tree that holds modules of the package, the root left out."""
    tops = (path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
    kept = [t for t in tops if t.name not in OUTSIDE and not (t / "pyvenv.cfg").exists()]
    return sorted({file.parent for top in kept for file in top.rglob("*.py")})


def modules() -> set[str]:
    files = [file for folder in (ROOT, *folders()) for file in folder.glob("*.py")]
    return {f"kdexport/{file.relative_to(ROOT).as_posix()}" for file in files}


def test_packages_are_listed() -> None:
    on_disk = {"kdexport"}
    on_disk |= {".".join(("kdexport", *each.relative_to(ROOT).parts)) for each in folders()}
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(on_disk)
    assert all((folder / "__init__.py").is_file() for folder in folders())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel that is built in a copy of the tree."""
    copy = tmp_path_factory.mktemp("wheel") / "tree"
    copy.mkdir()
    for file in (path for path in ROOT.iterdir() if path.is_file()):
        shutil.copy(file, copy)
    for room in {folder.relative_to(ROOT).parts[0] for folder in folders()}:
        shutil.copytree(ROOT / room, copy / room)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(copy.parent)], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = copy.parent.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_wheel_has_every_module_and_no_other(wheel: list[str]) -> None:
    shipped = {name for name in wheel if name.endswith(".py")}
    assert shipped == modules()


@pytest.mark.parametrize("file", ["py.typed", "core/manifest.schema.json", "export/zoo.json"])
def test_wheel_has_data(wheel: list[str], file: str) -> None:
    assert f"kdexport/{file}" in wheel


def run_python(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["kdexport", "kdexport.cli.main", "kdexport.testing"])
def test_import_is_light(module: str, tmp_path: Path) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)", tmp_path).split()
    assert module in loaded
    assert not HEAVY.intersection(loaded)


def test_runtime_loads_without_the_export_extra(tmp_path: Path) -> None:
    names = {file.stem for file in (ROOT / "runtimes").glob("*.py")}
    light = sorted(names - NEED_TORCH - {"__init__"})
    extra = PYPROJECT["project"]["optional-dependencies"]["export"]
    absent = {re.split("[<>=]", each)[0] for each in extra}
    absent -= {"huggingface_hub"}  # tokenizers brings it
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({absent!r}))
for name in {light!r}:
    importlib.import_module(f"kdexport.runtimes.{{name}}")
import kdexport, kdexport.cli.run
print(kdexport.Pipeline.__name__)
"""
    assert "pipeline" in light
    assert run_python(code, tmp_path).strip() == "Pipeline"
