"""The choice of formats against trying all of them."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.calib.search import choose_formats, smallest_and_largest
from kdexport.calib.table import LayerSensitivity, SensitivityTable
from kdexport.core.errors import OptionError
from kdexport.core.formats import FORMATS, stored_bytes

_FORMATS = ("palette8", "palette4", "palette2")
_SHAPES = [(64, 64), (32, 256), (64, 64, 3, 3), (128, 96)]


def _table(errors: list[list[float]]) -> SensitivityTable:
    layers = tuple(
        LayerSensitivity(f"layer{i}.weight", _SHAPES[i], dict(zip(_FORMATS, each, strict=True)))
        for i, each in enumerate(errors)
    )
    return SensitivityTable("model", {}, {"unet": "ab"}, {}, layers)


def _all(table: SensitivityTable) -> list[tuple[int, float]]:
    """Size and error of every choice."""
    options = [
        [(stored_bytes(FORMATS["float"], layer.shape), 0.0)]
        + [(stored_bytes(FORMATS[name], layer.shape), layer.errors[name]) for name in _FORMATS]
        for layer in table.layers
    ]
    return [
        (sum(size for size, _ in chosen), sum(error for _, error in chosen))
        for chosen in itertools.product(*options)
    ]


_ERRORS = st.lists(
    st.lists(st.floats(1e-6, 1e4), min_size=3, max_size=3), min_size=len(_SHAPES), max_size=4
)


@settings(max_examples=60)
@given(_ERRORS, st.floats(0, 1))
def test_the_bound_holds_and_the_choice_is_near_it(errors: list[list[float]], share: float) -> None:
    table = _table(errors)
    smallest, largest = smallest_and_largest(table, _FORMATS)
    target = round(smallest + share * (largest - smallest))
    choice = choose_formats(table, _FORMATS, target)
    optimum = min(error for size, error in _all(table) if size <= target)
    assert choice.bytes <= target
    assert choice.least <= optimum * (1 + 1e-6) + 1e-9
    assert choice.error >= optimum - 1e-9
    # What the whole last step would have gained, at most, is lost by not splitting a layer.
    jumps = [max(each.errors.values()) for each in table.layers]
    assert choice.error <= optimum + max(jumps)


@settings(max_examples=30)
@given(_ERRORS)
def test_more_room_is_never_predicted_to_be_much_worse(errors: list[list[float]]) -> None:
    table = _table([sorted(each) for each in errors])
    smallest, largest = smallest_and_largest(table, _FORMATS)
    assert choose_formats(table, _FORMATS, largest).error == 0
    tight = choose_formats(table, _FORMATS, smallest)
    assert tight.bytes == smallest
    assert set(tight.formats.values()) == {"palette2"}


def test_the_formats_and_sizes_add_up() -> None:
    table = _table([[1e-3, 1.0, 50.0]] * 4)
    choice = choose_formats(table, _FORMATS, 40_000)
    shapes = {layer.name: layer.shape for layer in table.layers}
    sizes = [stored_bytes(FORMATS[form], shapes[name]) for name, form in choice.formats.items()]
    assert choice.bytes == sum(sizes) <= 40_000
    found = sum(
        0.0 if form == "float" else layer.errors[form]
        for layer, form in zip(table.layers, choice.formats.values(), strict=True)
    )
    assert choice.error == pytest.approx(found)
    assert choice.predicted_psnr_db == pytest.approx(10 * math.log10(255**2 / found))


def test_a_size_that_cannot_be_met_says_what_can() -> None:
    table = _table([[1.0, 2.0, 3.0]] * 4)
    smallest, _ = smallest_and_largest(table, _FORMATS)
    with pytest.raises(OptionError, match=rf"the smallest is {smallest / 1e6:.1f} MB"):
        choose_formats(table, _FORMATS, smallest - 1)


def test_formats_that_the_table_lacks_are_refused() -> None:
    with pytest.raises(OptionError, match=r"says nothing of int4, only of palette8"):
        choose_formats(_table([[1.0, 2.0, 3.0]] * 4), ("int4",), 10**6)
