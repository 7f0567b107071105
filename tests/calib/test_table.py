"""The sensitivity table as a file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from kdexport.calib.table import (
    LayerSensitivity,
    SensitivityTable,
    Trial,
    psnr_of,
    rank_correlation,
    read_table,
    save_table,
)
from kdexport.core.errors import BundleError, RecipeError
from kdexport.core.ranges import LayerRange, TensorRange

_RANGE = TensorRange(-1.0, 2.0, 1.5, 2.0)
_TABLE = SensitivityTable(
    model="demo",
    weights_sha256={"unet/a.safetensors": "00"},
    architecture={"unet": "ab"},
    made={
        "prompts": ["a cat"],
        "steps": 4,
        "guidance": 2.0,
        "height": 64,
        "width": 64,
        "seed": 0,
    },
    layers=(LayerSensitivity("conv_in.weight", (64, 4, 3, 3), {"int8": 0.5, "int4": 20.0}),),
    trials=(Trial("conv_in.weight", "int8", 0.5, 0.6),),
    ranges={"conv_in": LayerRange(_RANGE, _RANGE)},
)


def test_there_and_back(tmp_path: Path) -> None:
    save_table(_TABLE, tmp_path / "t.json", overwrite=False)
    assert read_table(tmp_path / "t.json") == _TABLE
    assert _TABLE.formats == ("int8", "int4")


def test_a_table_is_not_replaced_unasked(tmp_path: Path) -> None:
    save_table(_TABLE, tmp_path / "t.json", overwrite=False)
    with pytest.raises(BundleError):
        save_table(_TABLE, tmp_path / "t.json", overwrite=False)
    save_table(_TABLE, tmp_path / "t.json", overwrite=True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kdexport_sensitivity": 2}, "version 2"),
        ({"kdexport_sensitivity": None}, "no sensitivity table"),
        ({"layers": []}, "no sensitivity table"),
        ({"layers": [{"name": 3}]}, "no sensitivity table"),
        ({"made": {"steps": 4}}, "does not say guidance"),
        (
            {"layers": [{"name": "a", "shape": [1], "errors": {"int8": -1.0}}]},
            "errors of 'a' are not complete",
        ),
        ({"ranges": 3}, "no sensitivity table|cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    file = tmp_path / "t.json"
    save_table(_TABLE, file, overwrite=False)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RecipeError, match=why):
        read_table(file)


@pytest.mark.parametrize(
    ("text", "why"), [("{", "not valid JSON"), ("[1]", "no sensitivity table")]
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(text)
    with pytest.raises(RecipeError, match=why):
        read_table(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="make one with `kdexport sensitivity`"):
        read_table(tmp_path / "none.json")


def test_another_model_is_refused() -> None:
    _TABLE.require_architecture({"unet": "ab"}, "demo")
    with pytest.raises(RecipeError, match=r"table is of 'demo', .* than 'koala'"):
        _TABLE.require_architecture({"unet": "cd"}, "koala")


def test_psnr() -> None:
    assert psnr_of(255.0**2) == 0
    assert psnr_of(1.0) == pytest.approx(48.13, abs=0.01)
    assert psnr_of(0.0) == math.inf


def test_rank_correlation() -> None:
    trials = [Trial("a", "int8", error, error**3) for error in (0.1, 2.0, 7.0, 9.0)]
    assert rank_correlation(trials) == pytest.approx(1.0)
    assert math.isnan(rank_correlation(trials[:2]))
