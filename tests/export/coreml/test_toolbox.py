import logging
import subprocess
import sys

import pytest
from kdexport.core.errors import DependencyError, OptionError
from kdexport.export.coreml.toolbox import (
    coremltools,
    deployment_target,
    inside,
    part_of,
    progress_of,
    quiet,
)


def test_nothing_is_printed():
    code = "from kdexport.export.coreml.toolbox import coremltools; coremltools()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout + run.stderr == ""


def test_absent_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(DependencyError, match=r"pip install kdexport\[coreml\]"):
        coremltools()


def test_targets():
    assert deployment_target("iOS17") is coremltools().target.iOS17
    with pytest.raises(
        OptionError, match="no Core ML target 'iOS15'; choose iOS16, iOS17 or iOS18"
    ):
        deployment_target("iOS15")


def test_quiet_collects_errors_and_restores_the_logger(capsys):
    logger = logging.getLogger("coremltools")
    before = logger.level, logger.propagate, list(logger.handlers)
    with quiet() as messages:
        logger.warning("hidden")
        logger.error("\n\nERROR - converting\n'x'")
    assert messages == ["ERROR - converting 'x'"]
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert capsys.readouterr().err == ""


def test_bars_become_progress():
    module = inside("converters.mil.mil.passes.pass_pipeline")
    bar, shares = module.tqdm, []
    with progress_of(shares.append, ((0.0, 0.5), (0.5, 1.0))):
        assert list(module.tqdm([1, 2], desc="x")) == [1, 2]
        assert list(module.tqdm(iter("ab"), unit="y")) == ["a", "b"]
    assert shares == [0.0, 0.25, 0.5, 0.75]
    assert module.tqdm is bar


def test_part_of_progress():
    shares = []
    part_of(shares.append, 0.5, 1.0)(0.5)
    assert shares == [0.75]
    assert part_of(None, 0.0, 1.0) is None
