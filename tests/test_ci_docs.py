"""The workflow that docs/ci.md offers: its commands, run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / "docs" / "github-actions.yml").read_text(encoding="utf-8"))
(JOB,) = WORKFLOW["jobs"].values()
RUNS = {each["name"]: each["run"] for each in JOB["steps"] if "run" in each}


def test_what_it_does():
    # YAML takes the key `on` for a truth value.
    assert set(WORKFLOW[True]) == {"push", "pull_request"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert list(RUNS) == ["install", "export", "parity", "draw"]
    keep = JOB["steps"][-1]
    assert keep["if"] == "always()"
    kept = keep["with"]["path"].split()
    bundle = WORKFLOW["env"]["BUNDLE"]
    assert kept[:3] == ["junit.xml", f"{bundle}/report.html", f"{bundle}/parity.json"]


def test_the_page_says_the_same():
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for name in ("export", "parity"):
        assert f"`{RUNS[name]}`" in text


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """A folder with the command `kdexport`, as an installation has it."""
    folder = tmp_path_factory.mktemp("bin")
    file = folder / "kdexport"
    code = "import sys\nfrom kdexport.cli.main import main\nmain()\n"
    file.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
    file.chmod(0o755)
    return folder


def test_its_commands(commands, micro_pipeline, tmp_path):
    # The demo model would take minutes; nothing but its name is another.
    given = {**WORKFLOW["env"], "MODEL": str(micro_pipeline)}
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **given, "PATH": path}
    for name in ("export", "parity", "draw"):
        # As GitHub runs them.
        command = ["bash", "-e", "-o", "pipefail", "-c", RUNS[name]]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    for kept in JOB["steps"][-1]["with"]["path"].split():
        assert (tmp_path / kept).stat().st_size > 0


def test_what_it_installs():
    assert RUNS["install"] == 'python -m pip install "$KDEXPORT"'
    # Installing is what scripts/test does; pip must only understand the requirement.
    from packaging.requirements import Requirement

    wanted = Requirement(WORKFLOW["env"]["KDEXPORT"])
    assert (wanted.name, wanted.extras) == ("kdexport", {"export", "cpu"})
