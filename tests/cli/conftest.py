"""Fixtures of commands."""

from __future__ import annotations

import pytest
from kdexport.cli.main import main


@pytest.fixture
def call(capsys):
    """Runs a command in this process: (status, standard output, standard error)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run
