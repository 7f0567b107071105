"""`scripts/gpu_check`: everything of it that needs no GPU."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from kdexport.cli.main import main
from kdexport.runtimes.ort_providers import PROVIDERS

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module", autouse=True)
def _scripts_on_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        # What the processes of the sides import is this tree.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        yield
        for name in [each for each in sys.modules if each.split(".")[0] == "gpu_check_parts"]:
            del sys.modules[name]


def soon(seconds=900):
    return time.monotonic() + seconds


def no_gpu_path(tmp_path):
    """A PATH without nvidia-smi, whatever this machine has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("bash", "python3", "dirname", "cksum", "cat", "ls", "rm", "ln"):
        (folder / program).symlink_to(shutil.which(program))
    return str(folder)


@pytest.mark.parametrize(
    "command", [[SCRIPTS / "gpu_check", "--quick"], [sys.executable, SCRIPTS / "gpu_check.py"]]
)
def test_without_a_gpu_it_says_so_and_ends(command, tmp_path):
    variables = {**os.environ, "PATH": no_gpu_path(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=variables,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("There is no NVIDIA GPU here (nvidia-smi finds none), so nothing")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", [[SCRIPTS / "gpu_check"], [sys.executable, SCRIPTS / "gpu_check.py"]]
)
def test_help_needs_no_gpu(command, tmp_path):
    """Nor any package: it is what tells one what to install."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -E -S "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    variables = {**os.environ, "PATH": no_gpu_path(tmp_path), "PYTHON": str(python)}
    command = [*map(str, command), "--help"]
    text = subprocess.check_output(command, text=True, env=variables)
    assert text.startswith("usage: gpu_check ")
    for word in ("--wheels DIR", "--case {bk-sdm-small,koala-700m,sdxs-512}", "never were"):
        assert word in text


def fake_smi(folder, line, status=0):
    """What nvidia-smi prints for one GPU."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{line}'\nexit {status}\n", encoding="utf-8")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


H200 = "NVIDIA H200, 9.0, 143771 MiB, 580.159.03"


def test_gpus_are_read(tmp_path, monkeypatch):
    from gpu_check_parts.machine import Gpu, describe, find_gpus

    monkeypatch.setenv("PATH", fake_smi(tmp_path, H200))
    gpus = find_gpus()
    assert gpus == [Gpu("NVIDIA H200", "9.0", "143771 MiB", "580.159.03")]
    machine = describe(gpus)
    assert machine["gpus"][0]["name"] == "NVIDIA H200"
    assert {"torch", "diffusers"} <= set(machine["packages"])
    # Memory that is the CPU's.
    monkeypatch.setenv("PATH", fake_smi(tmp_path, "NVIDIA GB10, 12.1, [N/A], 580"))
    assert find_gpus() == [Gpu("NVIDIA GB10", "12.1", "[N/A]", "580")]
    # A driver that does not answer, as in a container without its device.
    monkeypatch.setenv("PATH", fake_smi(tmp_path, "No devices were found", 6))
    assert find_gpus() == []


def save_wheel(folder, name, tag="py3-none-any"):
    """A package of one module."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "VALUE = 7\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_sets_itself_up_from_wheels(tmp_path):
    wheels, venv = tmp_path / "wheels", tmp_path / "venv"
    save_wheel(wheels, "gpu_check_probe")
    save_wheel(wheels, "gpu_check_other", "cp27-cp27m-win32")
    variables = {**os.environ, "PATH": fake_smi(tmp_path / "smi", H200), "PYTHON": sys.executable}
    command = [SCRIPTS / "gpu_check", "--wheels", wheels, "--venv", venv, "--list"]
    command += ["--case", "sdxs-512"]

    def run():
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=variables
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert "Left out: gpu_check_other-1.0-cp27-cp27m-win32.whl" in done.stderr
    listed = done.stdout.splitlines()
    assert "SDXS-512 with TAESD, 1 step: TensorRT, no CUDA graphs" in listed
    assert all(line.startswith(("SDXS-512", "NVIDIA H200")) for line in listed)
    code = "import gpu_check_probe as p, kdexport, torch; print(p.VALUE, kdexport.__file__)"
    python = [str(venv / "bin" / "python"), "-I", "-c", code]
    value, file = subprocess.check_output(python, text=True).split()
    assert value == "7"
    # This tree, beside the packages of the interpreter that it was made with.
    assert Path(file).resolve() == SCRIPTS.parent / "__init__.py"
    # What is there is used again.
    (venv / "kept").touch()
    again = run()
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "Left out" not in again.stderr
    assert (venv / "kept").exists()


@pytest.fixture(scope="module")
def drawing():
    from gpu_check_parts.sides import Drawing

    return Drawing(steps=2, guidance=5.0, height=64, width=64)


@pytest.fixture(scope="module")
def in_this_process():
    """Runs kdexport's commands here, where torch is loaded and the small graphs are traced."""
    from gpu_check_parts import commands

    def run(arguments, deadline, log):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as stop:
            main(list(arguments))
        assert stop.value.code in (0, 3)
        return output.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "kdexport", run)
        yield commands


@pytest.fixture(scope="module")
def bundle(micro_pipeline, in_this_process, tmp_path_factory):
    """An ONNX bundle, made as the check makes them."""
    folder = tmp_path_factory.mktemp("bundles") / "micro-fused"
    options = ["onnx", "--schedulers", "", "--max-steps", "2"]
    made = in_this_process.make_bundle(micro_pipeline, folder, options, soon())
    assert made["bytes"] > 1e5
    return folder


@pytest.fixture(scope="module")
def compared(bundle, micro_pipeline, drawing, tmp_path_factory):
    """ONNX Runtime beside diffusers, both on the CPU."""
    from gpu_check_parts.alternate import Rounds
    from gpu_check_parts.compare import compare_sides
    from gpu_check_parts.sides import DiffusersSide, OrtSide

    candidate = OrtSide("ONNX Runtime, cpu", str(bundle), "cpu")
    baseline = DiffusersSide("diffusers", str(micro_pipeline), "cpu", "float32")
    folder = tmp_path_factory.mktemp("compared")
    return compare_sides(candidate, baseline, drawing, Rounds(1, 3), None, folder, soon())


def test_two_sides_draw_the_same_in_turns(compared):
    ours, theirs = compared["candidate"], compared["baseline"]
    for figures in (ours, theirs):
        assert figures["error"] is None
        assert (len(figures["warmup_s"]), len(figures["picture_s"])) == (1, 3)
        assert figures["opening_s"] > 0
        assert figures["median_s"] == sorted(figures["picture_s"])[1]
    assert compared["ratio"] == theirs["median_s"] / ours["median_s"]
    pictures = [np.load(each["image"]).astype(int) for each in (ours, theirs)]
    assert pictures[0].shape == (64, 64, 3)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_reference_is_what_pictures_are_compared_with(bundle, drawing, compared, tmp_path):
    from gpu_check_parts.alternate import Rounds
    from gpu_check_parts.compare import compare_sides, draw_reference
    from gpu_check_parts.sides import OrtSide

    side = OrtSide("again", str(bundle), "cpu")
    drawn = draw_reference(side, drawing, tmp_path / "reference", soon())
    ours, theirs = (np.load(compared[each]["image"]) for each in ("candidate", "baseline"))
    np.testing.assert_array_equal(np.load(drawn["image"]), ours)
    # A picture that is not quite what is drawn.
    changed = tmp_path / "changed.npy"
    np.save(changed, np.where(theirs > 127, theirs - 10, theirs + 10).astype(np.uint8))
    result = compare_sides(side, None, drawing, Rounds(1, 1), changed, tmp_path / "again", soon())
    assert result["ratio"] is None
    assert result["candidate"]["psnr_db"] == pytest.approx(28.13, abs=0.5)


def providers_there():
    available = onnxruntime.get_available_providers()
    return {short for short, name in PROVIDERS.items() if name in available}


# What cannot be opened here, and what is said of it.
MISSING = [
    ({"provider": "cuda"}, "The installed onnxruntime has no provider 'cuda', only cpu"),
    ({"provider": "tpu"}, "ONNX Runtime has no provider 'tpu'; choose cpu, cuda"),
    ({"cuda_graphs": True}, "The provider 'cpu' has no CUDA graphs; choose cuda"),
    ({"bundle": "nowhere"}, "'nowhere' is no kdexport bundle"),
]


def test_sides_take_turns_and_what_is_missing_is_a_sentence(bundle, drawing, tmp_path, monkeypatch):
    from gpu_check_parts import alternate as module
    from gpu_check_parts.sides import OrtSide

    asked = []

    class Watched(module.Worker):
        def ask(self, request):
            asked.append((self._log.stem, request.get("seed")))
            return super().ask(request)

    monkeypatch.setattr(module, "Worker", Watched)
    good = OrtSide("good", str(bundle), "cpu")
    there = providers_there()
    missing = [each for each in MISSING if each[0].get("provider") not in there]
    sides = [good, *(replace(good, **change) for change, _ in missing), good]
    first, *bad, last = module.alternate(sides, drawing, module.Rounds(1, 2), soon(), tmp_path)
    draws = [(name, seed) for seed in range(3) for name in ("0", str(len(sides) - 1))]
    assert asked == [*((str(index), None) for index in range(len(sides))), *draws]
    for timing in (first, last):
        assert timing.error is None
        assert (len(timing.warmup_s), len(timing.picture_s)) == (1, 2)
    for timing, (_, sentence) in zip(bad, missing, strict=True):
        assert timing.error.startswith(sentence)
        assert (timing.opening_s, timing.picture_s, timing.image) == (None, [], None)


HANG = "import time; time.sleep(60)"
# Processes of a side that end, hang, or hang after a while: seconds to wait, and what is said.
ENDS = [
    ("raise SystemExit(7)", 60, r"its process ended with status 7; see .*0.log"),
    (HANG, 1, "out of time"),
    ("for _ in '123': print('{\"seconds\": 2}', flush=True)\n" + HANG, 3, "out of time"),
    ('print(\'{"error": "no memory"}\')', 60, "no memory"),
]


@pytest.mark.parametrize(("code", "limit", "sentence"), ENDS)
def test_a_side_that_dies_or_hangs_is_left_behind(
    drawing, tmp_path, monkeypatch, code, limit, sentence
):
    from gpu_check_parts import alternate as module
    from gpu_check_parts.sides import OrtSide

    worker = tmp_path / "gpu_check_parts"
    worker.mkdir()
    (worker / "__init__.py").touch()
    (worker / "worker.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(module, "_SCRIPTS", tmp_path)
    side = OrtSide("side", "none", "cpu")
    start = time.monotonic()
    (timing,) = module.alternate([side], drawing, module.Rounds(1, 5), soon(limit), tmp_path)
    assert time.monotonic() - start < 50
    assert re.fullmatch(sentence, timing.error)
    # What was drawn until then counts: one answer for the opening, one for the warm-up.
    answers = 3 if "seconds" in code else 0
    assert (timing.opening_s is not None, len(timing.picture_s)) == (answers > 0, answers // 3)


def test_verification_is_summed_up(bundle, in_this_process):
    options = ["--runtime", "onnxruntime", "--provider", "cpu", "--steps", "1"]
    result = in_this_process.verify(bundle, options, soon())
    assert result["passed"] is True
    assert set(result["components_db"]) == {"text_encoder", "unet", "vae_decoder"}
    figures = [*result["components_db"].values(), result["picture_db"]]
    assert all(each == "equal" or each > 60 for each in figures)


def own_processes():
    """The function that runs a command in a process of its own."""
    spec = importlib.util.find_spec("gpu_check_parts.commands")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kdexport


def test_commands_that_fail(bundle, tmp_path, monkeypatch):
    from gpu_check_parts.commands import make_bundle, verify
    from gpu_check_parts.parts import PartError

    kdexport = own_processes()
    with pytest.raises(PartError, match="there is no nothing-native, see its row"):
        verify(tmp_path / "nothing-native", [], soon())
    with pytest.raises(PartError, match="there is no nothing, see its row"):
        make_bundle(tmp_path / "nothing", tmp_path / "out", ["onnx"], soon())
    with pytest.raises(PartError, match=r"^There is no runtime 'x'; choose onnxruntime"):
        kdexport(["run", str(bundle), "a", "--runtime", "x"], soon(), tmp_path / "log")
    with pytest.raises(PartError, match="out of time"):
        kdexport(["models"], time.monotonic() + 0.05, tmp_path / "log")


def parts_of(outcomes, settings=None):
    """Parts that succeed with a dict, fail with a string, or raise what they are."""
    from gpu_check_parts.parts import Part, PartError

    calls = []

    def runner(what, outcome):
        def run(deadline):
            calls.append(what)
            if isinstance(outcome, dict):
                return {**outcome, "left": deadline - time.monotonic()}
            raise PartError(outcome) if isinstance(outcome, str) else outcome

        return run

    parts = [
        Part("case", what, settings or {}, runner(what, outcome))
        for what, outcome in outcomes.items()
    ]
    return parts, calls


def test_a_check_goes_on_where_it_stopped(tmp_path):
    from gpu_check_parts.parts import carry_out

    said = []

    def run(outcomes, settings=None, budget=100.0):
        parts, calls = parts_of(outcomes, settings)
        records = carry_out(parts, tmp_path, 10.0, budget, said.append)
        assert [each.what for each in records] == list(outcomes)
        return records, calls

    with pytest.raises(KeyboardInterrupt):
        run({"one": {"a": 1}, "two": "no luck", "three": KeyboardInterrupt(), "four": {}})
    records, calls = run({"one": {"a": 2}, "two": {"b": 3}, "three": "gone", "four": {"c": 4}})
    # The first is done, the second failed, the others never ended.
    assert calls == ["two", "three", "four"]
    assert [each.result.get("a") for each in records] == [1, None, None, None]
    assert [each.error for each in records] == [None, None, "gone", None]
    assert 9 < records[3].result["left"] <= 10
    first, again = ["one: 0 s", "two: no luck"], ["two: 0 s", "three: gone", "four: 0 s"]
    assert said == [f"case, {each}" for each in (*first, *again)]
    # With other settings all is done again, as far as time allows.
    records, calls = run({"one": {"a": 5}, "two": {}}, {"quick": True})
    assert calls == ["one", "two"]
    records, calls = run({"one": {"a": 6}, "two": {}}, {"quick": False}, budget=0.0)
    assert calls == []
    assert [(each.result, each.error) for each in records] == [({}, None)] * 2


def test_every_part_has_a_record_of_its_own(tmp_path):
    from gpu_check_parts.cases import CASES, FULL, QUICK
    from gpu_check_parts.plan import CasePlan

    for effort in (FULL, QUICK):
        parts = [
            part
            for case in CASES.values()
            for part in CasePlan(case, effort, tmp_path, "9.0").parts()
        ]
        assert len({part.file for part in parts}) == len(parts)
        for part in parts:
            json.dumps(part.settings)
    names = [part.what for part in parts if part.case.startswith("BK-SDM")]
    assert {"ONNX Runtime, cuda", "TensorRT, CUDA graphs", "diffusers, eager"} <= set(names)
    # Models and bundles come before what needs them.
    assert names.index("model") < names.index("bundle portable") < names.index("bundle native")
    assert names.index("bundle native") < names.index("TensorRT, CUDA graphs")


def test_cases_are_of_the_zoo():
    from gpu_check_parts.cases import CASES
    from kdexport.export.zoo import zoo_entry

    for case in CASES.values():
        entry = zoo_entry(case.model)
        drawing = case.drawing
        assert entry.guidance == drawing.guidance
        assert (entry.resolution,) * 2 == (drawing.height, drawing.width)
        assert (entry.steps == 1) == (drawing.steps == 1)


def test_the_options_of_kdexport_are_there(tmp_path):
    """What the parts call is what the commands take."""
    from gpu_check_parts import commands, plan
    from gpu_check_parts.cases import CASES, FULL
    from kdexport.cli.main import cli

    called = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "kdexport", lambda words, *_: called.append(words) or "{}")
        for part in plan.CasePlan(CASES["bk-sdm-small"], FULL, tmp_path, "8.9").parts():
            folder = tmp_path / "models" / "bk-sdm-small"
            for kind in ("fused", "portable", "native", "rtx", "float32"):
                (tmp_path / "bundles" / f"bk-sdm-small-{kind}").mkdir(parents=True, exist_ok=True)
            if part.what == "model":
                part.run(soon())
                folder.mkdir(parents=True)
            elif part.what.startswith(("bundle", "verify")):
                try:
                    part.run(soon())
                except KeyError:  # of the empty answer
                    assert part.what.startswith("verify")
    assert len(called) == 1 + 5 + 5
    for words in called:
        command = cli
        context = command.make_context("kdexport", list(words), resilient_parsing=True)
        name, command, rest = command.resolve_command(context, list(words))
        if name == "models":
            name, command, rest = command.resolve_command(context, rest)
        command.make_context(name, rest, parent=context)


def test_a_small_check(bundle, drawing, tmp_path):
    """From sides to the table, with what is missing here."""
    from gpu_check import write_report
    from gpu_check_parts.alternate import Rounds
    from gpu_check_parts.cases import Case, Effort
    from gpu_check_parts.machine import describe
    from gpu_check_parts.parts import carry_out
    from gpu_check_parts.plan import CasePlan
    from gpu_check_parts.sides import EngineSide, OrtSide

    effort = Effort(Rounds(1, 1), "default", 1)
    plan = CasePlan(Case("Micro", "micro", drawing), effort, tmp_path, "8.9")
    good = OrtSide("ONNX Runtime", str(bundle), "cpu")
    nothing = str(tmp_path / "bundles" / "micro-native")
    parts = [
        plan.comparison(good, replace(good, provider="tpu")),
        plan.comparison(replace(good, name="ONNX Runtime, tpu", provider="tpu"), good),
        plan.comparison(EngineSide("TensorRT", nothing, "tensorrt", "cuda"), good),
    ]
    said = []
    for _ in range(2):
        records = carry_out(parts, tmp_path / "records", 900, 900, said.append)
    # What failed is tried again.
    assert [each.split(":")[0] for each in said] == [
        "Micro, ONNX Runtime",
        *["Micro, ONNX Runtime, tpu", "Micro, TensorRT"] * 2,
    ]
    table = write_report(tmp_path, describe([]), records)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if "| Micro" in line]
    middle = records[0].result["candidate"]["median_s"]
    assert rows[0][:5] == ["Micro", "ONNX Runtime", f"{1 / middle:.2f}", f"{middle:.4f}", ""]
    assert "nothing beside it: ONNX Runtime has no provider 'tpu'; choose cpu" in rows[0][-1]
    assert rows[1][-1].startswith("ONNX Runtime has no provider 'tpu'; choose cpu")
    assert rows[2][-1] == "there is no micro-native, see its row"


def test_the_table(tmp_path, compared):
    from gpu_check import write_report
    from gpu_check_parts.machine import Gpu, describe
    from gpu_check_parts.parts import Record

    machine = describe([Gpu("NVIDIA H200", "9.0", "143771 MiB", "580")])
    alone = {**compared, "ratio": None, "baseline": {**compared["baseline"], "error": "no|torch"}}
    late = {**compared, "candidate": {**compared["candidate"], "error": "out of time"}}
    checked = {
        "passed": True,
        "components_db": {"unet": 61.25, "vae_decoder": "equal"},
        "picture_db": 48.0,
    }
    records = [
        Record("A", "model", {}, 12.0, {"bytes": 2_500_000_000}),
        Record("A", "reference", {}, 12.0, {"image": "0.npy", "seconds": 1.0}),
        Record("A", "verify", {}, 1.0, checked),
        Record("A", "verify", {}, 1.0, {**checked, "passed": False}),
        Record("A", "one", {}, 1.0, compared),
        Record("A", "two", {}, 1.0, alone),
        Record("A", "three", {}, 1.0, late),
        Record("B", "bundle native", {}, 1.0, error="TensorRT is not installed; install a|b."),
        Record("B", "later", {}),
    ]
    table = write_report(tmp_path, machine, records)
    assert (tmp_path / "gpu_check.md").read_text(encoding="utf-8") == table
    first, *_ = lines = table.splitlines()
    assert first.startswith("NVIDIA H200 (143771 MiB, driver 580); ")
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert {len(row) for row in rows} == {8}
    cells = [[cell.strip() for cell in row] for row in rows[2:]]
    assert [row[:2] for row in cells] == [[each.case, each.what] for each in records]
    notes = [row[-1] for row in cells]
    assert notes[0] == "2.50 GB in 12 s"
    assert notes[2] == "every gate passed: unet 61.2 dB, vae_decoder equal dB, picture 48.0 dB"
    assert notes[3].startswith("A GATE FAILED: unet")
    middle = compared["candidate"]["median_s"]
    assert cells[4][2:5] == [f"{1 / middle:.2f}", f"{middle:.4f}", f"{compared['ratio']:.2f}"]
    assert notes[5].endswith("nothing beside it: no/torch")
    assert cells[5][4] == ""
    assert notes[6].endswith("; out of time")
    assert notes[7] == "TensorRT is not installed; install a/b."
    assert notes[8] == "not run yet; run again to go on"
    data = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    assert data["machine"] == machine
    assert data["records"] == json.loads(json.dumps([asdict(each) for each in records]))
