"""Fixtures that all tests share."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# Tests that run side by side, on machines that do other things, say nothing about time.
settings.register_profile("kdexport", deadline=None)
settings.load_profile("kdexport")

# Tiny models: with more threads, tests that run side by side only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Files whose tests share little: any worker takes the next of them.
_APART = {
    *("test_to_onnx.py", "export/test_control.py", "test_end_to_end.py"),
    *("test_zoo_rows.py", "test_coreml_rows.py", "test_tensorrt_rows.py"),
    "docs/test_commands.py",
}
# Files that export the same small pipeline, whose graphs one worker makes once.
_MICRO = {
    *("calib/test_quality.py", "cli/test_adapters.py", "cli/test_commands.py"),
    *("cli/test_openvino.py", "test_few_steps.py", "test_traps.py", "tests/test_control.py"),
    *("cli/test_bench.py", "scripts/test_bench_peers.py", "cli/test_calm.py"),
    *("cli/test_inspect.py", "plan/test_make.py"),
}


# Settings of a VAE that pipelines read and the module does not.
_OF_PIPELINES = {"scaling_factor", "force_upcast"}


# First, for xdist reads the marks at the same time.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps tests that share what takes long on one worker (`--dist loadgroup`)."""
    for item in items:
        path = item.path.as_posix()
        if not any(path.endswith(name) for name in _APART):
            micro = any(path.endswith(name) for name in _MICRO)
            item.add_marker(pytest.mark.xdist_group("micro" if micro else path))


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a zoo model's narrow twin, made once per session; do not write to it."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        from kdexport.export.make import make_checkpoint  # torch: only where a test asks for it

        if name not in made:
            directory = tmp_path_factory.mktemp("narrow") / name
            make_checkpoint(name, directory, narrow=True)
            made[name] = directory
        return made[name]

    return folder


@pytest.fixture(scope="session", autouse=True)
def _zoo_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keeps `zoo:NAME` out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDEXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _traced_once():
    """Makes graphs of modules that are built and wrapped alike once: most of what exports take."""
    from kdexport.export import to_onnx

    make, made = to_onnx.make_graph, {}

    def cached(wrapped, mode, opset, static):
        config = wrapped.inner.config
        processors = getattr(wrapped.inner, "attn_processors", {})
        settings = {name: value for name, value in vars(wrapped).items() if name[:1] != "_"}
        plain = dict(config) if isinstance(config, dict) else config.to_dict()
        built = [
            *(type(wrapped), type(wrapped.inner), wrapped.core, settings, processors),
            {key: value for key, value in plain.items() if key not in _OF_PIPELINES},
        ]
        key = json.dumps([built, opset, static], default=repr)
        if key not in made:
            made[key] = make(wrapped, mode, opset, static)
        model, permutations = made[key]
        return model.clone(), permutations

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "make_graph", cached)
        yield


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: (status, standard output, standard error)."""
    from kdexport.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def lora() -> ModuleType:
    """The module `lora.py` beside this file."""
    return _beside("lora")


def _beside(name: str) -> ModuleType:
    """The module `NAME.py` beside this file."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"beside_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def micro() -> ModuleType:
    """The smallest modules, see `micro.py`."""
    return _beside("micro")


@pytest.fixture(scope="session")
def stand_in_hub() -> ModuleType:
    """A Hub on this machine, see `stand_in_hub.py`."""
    return _beside("stand_in_hub")


@pytest.fixture(scope="session")
def ldm() -> ModuleType:
    """The writer of single-file checkpoints, see `ldm.py`."""
    return _beside("ldm")


@pytest.fixture(scope="session")
def micro_pipeline(micro: ModuleType, narrow: Callable[[str], Path], tmp_path_factory) -> Path:
    """A whole pipeline that exports in seconds; do not write to it."""
    folder: Path = tmp_path_factory.mktemp("micro") / "pipeline"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    return folder


@pytest.fixture(scope="session")
def micro_bundle(micro_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX bundle, not verified, for at most two steps; do not write to it."""
    from kdexport.cli.main import main

    folder: Path = tmp_path_factory.mktemp("micro-bundle") / "bundle"
    short = ("--no-verify", "--schedulers", "", "--max-steps", "2")
    with pytest.raises(SystemExit) as stop:
        main(["onnx", str(micro_pipeline), "-o", str(folder), *short])
    assert stop.value.code == 0
    return folder
