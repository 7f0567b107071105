"""`kdexport sensitivity` and `kdexport quantize` as a user runs them, on the demo model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kdexport.cli.budgets import Budget, candidates_of, parse_size
from kdexport.cli.compressing import Target, form_named
from kdexport.cli.loops import Drawn
from kdexport.cli.main import main
from kdexport.core.errors import OptionError
from kdexport.core.options import VerifyOptions
from kdexport.core.recipe import read_recipe
from PIL import Image

_SMALL = ["--size", "64", "64", "--steps", "1"]


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantize")


@pytest.fixture(scope="module")
def table(folder: Path) -> Path:
    file = folder / "table.json"
    few = ["--count", "1", "--projections", "1", "--trials", "3"]
    assert _run("sensitivity", "demo", "-o", file, "--formats", "int8,int4", *few, *_SMALL) == 0
    return file


@pytest.fixture(scope="module")
def sweep(folder: Path, table: Path) -> Path:
    """Two forms and a recipe of the demo model."""
    output = folder / "sweep"
    forms = ["--format", "int8", "--target-size", "4MB", "--captions", "0"]
    assert _run("quantize", "demo", "-o", output, "--table", table, *forms, *_SMALL) == 0
    return output


def test_a_table_is_printed_and_kept(
    folder: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(table.read_text())
    assert data["model"] == "demo"
    assert len(data["layers"]) > 100
    few = ["--count", "1", "--projections", "1", "--trials", "0", "--formats", "int8"]
    assert _run("sensitivity", "demo", "-o", table, *few) == 1
    assert "--overwrite" in capsys.readouterr().err
    other = folder / "other.json"
    assert _run("sensitivity", "demo", "-o", other, "--json", *few, *_SMALL) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rank_correlation"] is None
    assert shown["predicted_psnr_db"]["int8"] > 20


def test_figures_of_every_form(sweep: Path) -> None:
    data = json.loads((sweep / "figures.json").read_text())
    assert data["model"] == "demo"
    assert data["drawn"] == {"steps": 1, "height": 64, "width": 64}
    figures = {each["form"]: each for each in data["forms"]}
    assert set(figures) == {"int8", "mixed-4MB"}
    for each in figures.values():
        assert each["passed"]
        assert each["image_psnr_db"] > 20
        assert 0.5 < each["image_ssim"] <= 1
        assert (sweep / each["bundle"] / "parity.json").is_file()
        assert each["unet_bytes"] < each["bytes"]
    with Image.open(sweep / "figures.png") as picture:
        assert picture.width > 600


def test_a_recipe_says_what_it_was_made_from(sweep: Path) -> None:
    recipe = read_recipe(sweep / "onnx-mixed-4MB.recipe.json")
    assert recipe.made["model"] == "demo"
    assert recipe.made["bytes"] <= 4_000_000
    assert recipe.expected["image_psnr_db"] > 20
    assert len(recipe.architecture["unet"]) == 64


def test_a_sweep_is_added_to(sweep: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--format", "int4", "--captions", "0"]
    assert _run("quantize", "demo", "-o", sweep, *more, *_SMALL) == 0
    shown = capsys.readouterr().out
    assert "int8" in shown
    assert "int4" in shown
    assert _run("quantize", "demo", "-o", sweep, *more, *_SMALL) == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Nothing to make"),
        (["--format", "int5"], "no weight format 'int5'"),
        (["--format", "int8", "--backend", "tflite"], "no backend 'tflite'"),
        (["--format", "palette6"], "ONNX has no palettes"),
        (["--format", "bf16", "--backend", "coreml"], "coreml has no bf16"),
        (["--format", "int4", "--backend", "coreml", "--target", "iOS16"], "choose --target iOS18"),
        (["--format", "int8", "--format", "int8"], "int8 was asked for twice"),
        (["--format", "none/recipe.json"], "cannot be read"),
        (["--target-psnr", "nan"], "a positive number of dB"),
        (["--target-size", "400MB"], "no more than the 400.0 MB asked for"),
        (["--target-size", "4MB", "--candidates", "int8-dynamic"], "for every weight"),
        (["--format", "fp8", "--backend", "coreml"], "fp8"),
        (["--format", "int8", "--chunk"], "Chunks are of Core ML"),
        (["--format", "int8-static"], "kdexport calibrate"),
        (["--target-size", "many"], "'many' is no size"),
        (["--target-size", "1MB"], "the smallest is"),
        (["--target-size", "4MB", "--candidates", "palette6"], "none that onnx has"),
        (["--target-psnr", "400"], "cannot be reached with these formats (int8, int4), only"),
        (["--target-psnr", "30", "--table", "none.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_made_is_refused(
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    given = arguments if "--table" in arguments else [*arguments, "--table", str(table)]
    output = tmp_path / "out"
    assert _run("quantize", "demo", "-o", output, *given, *_SMALL, "--captions", "0") == 1
    assert why in " ".join(capsys.readouterr().err.split())
    assert not output.exists()


def test_a_file_is_no_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    output.write_text("mine")
    assert _run("quantize", "demo", "-o", output, "--format", "int8", *_SMALL) == 1
    assert "is a file; name a folder" in " ".join(capsys.readouterr().err.split())
    assert output.read_text() == "mine"


def test_a_sweep_of_other_pictures_is_refused(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--format", "fp16", "--captions", "0", "--size", "64", "64", "--steps", "2"]
    assert _run("quantize", "demo", "-o", sweep, *other) == 1
    assert "compared with steps 1" in " ".join(capsys.readouterr().err.split())
    assert not (sweep / "onnx-fp16").exists()


def test_a_recipe_of_another_model_is_refused(
    sweep: Path, narrow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = sweep / "onnx-mixed-4MB.recipe.json"
    other = narrow("bk-sdm-small")
    assert _run("quantize", other, "-o", tmp_path / "out", "--format", recipe, *_SMALL) == 1
    assert "recipe is for another model" in capsys.readouterr().err
    table = ["--table", sweep.parent / "table.json", "--target-size", "1MB"]
    assert _run("quantize", other, "-o", tmp_path / "out", *table, *_SMALL) == 1
    assert "table is of 'demo'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "size"),
    [("180MB", 180_000_000), ("1.5 GB", 1_500_000_000), ("4", 4_000_000), ("900kb", 900_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-3MB", "0MB", "3TB", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is no size"):
        parse_size(text)


def test_a_budget_is_one_thing() -> None:
    with pytest.raises(OptionError, match="either --target-size or --target-psnr"):
        Budget(bytes=3, psnr_db=4.0)
    assert Budget(psnr_db=35.0).name == "mixed-35dB"


def test_numbers_of_prompts_and_steps() -> None:
    with pytest.raises(OptionError, match="at least one prompt"):
        Drawn(count=0)


def test_candidates_are_what_table_and_backend_have(table: Path) -> None:
    from kdexport.calib.table import read_table

    verify = VerifyOptions()
    onnx = Target("onnx", "iOS18", "4090", chunk=False, verify=verify, captions=0)
    assert candidates_of(read_table(table), onnx) == ("int8", "int4")
    old = Target("coreml", "iOS16", "4090", chunk=False, verify=verify, captions=0)
    assert candidates_of(read_table(table), old) == ("int8",)


def test_forms_are_called_after_their_files(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text('{"default": "int8"}')
    assert form_named(str(tmp_path / "small.json"), "onnx", None).name == "small"
    assert form_named("fp16", "onnx", None).quantize is None
