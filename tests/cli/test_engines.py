"""How engines are shown."""

from types import SimpleNamespace

from kdexport.cli.engines import print_engines, say_not_executed
from kdexport.core.manifest import EngineRecord, FileRecord

SHAPES = {"sample": ((1, 4, 8, 8), (2, 4, 8, 8), (2, 4, 8, 8)), "timestep": ((), (), ())}


def engine(role, capability, **settings):
    file, key = f"{role}.{capability}.plan", f"{role}{capability}" * 4
    return EngineRecord(role, file, "native", capability, "10.7.0", key, SHAPES, settings)


def test_engines_are_shown_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    engines = (
        engine("unet", "sm_89", compatibility="ampere-plus", level=5),
        engine("unet", "sm_86", compatibility="none", level=None),
    )
    files = [FileRecord(each.file, "0" * 64, 2_000_000) for each in engines]
    manifest = SimpleNamespace(engines=engines, files=files)
    print_engines(manifest)
    shown = capsys.readouterr().out
    first, second = (line for line in shown.splitlines() if ".plan" in line)
    assert "sm_89 (4090, " in first
    assert "TensorRT 10.7.0, compatibility ampere-plus, level 5 " in first
    assert "2.0 MB" in first
    assert "unetsm_89une" in first
    assert "TensorRT 10.7.0 " in second
    # The profile once, for both have the same.
    assert shown.count("1×4×8×8") == 1
    assert " () " in shown
    say_not_executed(manifest)
    assert "Engines for sm_86, sm_89 built, not executed here" in capsys.readouterr().out
