import json

import numpy as np
import pytest
from coremltools.optimize._utils import pack_elements_into_bits
from kdexport.core.compare import compare
from kdexport.core.errors import OptionError
from kdexport.export.coreml.half import to_half
from kdexport.export.coreml.lut import pack
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.palettize import (
    Palette,
    palettize,
    read_recipe,
    weight_names,
)
from kdexport.export.coreml.save import save_packages
from kdexport.export.coreml.toolbox import deployment_target
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.package import read_package

NAMES = (
    "time_weight",
    "conv_in_weight",
    "down_weight",
    "attn_to_q_weight",
    "attn_to_k_weight",
    "attn_to_v_weight",
    "attn_to_out_0_weight",
    "conv_out_weight",
)


@pytest.fixture(scope="module")
def half(toy):
    """Makes float16 programs."""

    def make(target="iOS17", islands=()):
        return to_half(toy.program(target), islands, deployment_target(target))

    return make


def quality(toy, tmp_path, target, palette):
    saved = save_packages(
        toy.program(target),
        [tmp_path / "Unet.mlpackage"],
        inputs=toy.module.inputs,
        outputs=toy.module.outputs,
        precision="fp16",
        islands=toy.islands,
        target=target,
        metadata=PackageMetadata("x"),
        palette=palette,
    )[0]
    given = Evaluator(read_package(saved.path).function).run(toy.feed)["noise_pred"]
    return saved, compare(given, toy.given).psnr_db


@pytest.mark.parametrize(("bits", "least"), [(8, 48), (6, 37), (4, 25)])
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_palettes_come_close(toy, tmp_path, target, bits, least):
    saved, psnr = quality(toy, tmp_path, target, Palette(default=bits))
    assert psnr > least
    assert {each.name for each in saved.palettized} == set(NAMES)
    assert {each.bits for each in saved.palettized} == {bits}
    elements = sum(each.elements for each in saved.palettized)
    assert sum(each.bytes for each in saved.palettized) < 1.4 * elements * bits / 8
    assert saved.bytes < elements * 2


def test_groups_of_channels_from_ios18_on(half):
    for target, palettes in (("iOS17", 1), ("iOS18", 4)):
        program = half(target)
        records = {each.name: each for each in palettize(program, Palette(default=4), target)}
        assert records["down_weight"].palettes == palettes
        # 4 channels, and palettes as large as the indices.
        assert records["conv_out_weight"].palettes == 1


def test_the_same_bytes_each_time(toy, tmp_path):
    files = []
    for name in ("a", "b"):
        saved, _ = quality(toy, tmp_path / name, "iOS17", Palette(default=6))
        files.append((saved.path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes())
    assert files[0] == files[1]


def test_recipes(half, tmp_path):
    file = tmp_path / "recipe.json"
    rules = {"conv_in.weight": 8, "*attn*": 4, "attn.to_q.weight": None, "default": 6}
    file.write_text(json.dumps(rules))
    records = palettize(half(), read_recipe(file), "iOS17")
    expected = dict.fromkeys(NAMES, 6) | {"conv_in_weight": 8}
    expected |= {name: 4 for name in NAMES if "attn" in name}
    del expected["attn_to_q_weight"]
    assert {each.name: each.bits for each in records} == expected


def test_what_stays_as_it_is(half):
    """Weights in float32, of embeddings, small or unnamed."""
    program = half(islands=["conv_in_conv2d"])
    assert set(weight_names(program)) == {*NAMES} - {"conv_in_weight"}
    assert palettize(program, Palette({"down_weight": 4}), "iOS17")[0].name == "down_weight"


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (Palette({"down_weigth": 4}, 6), "names down_weigth, which no weight is called"),
        (Palette({"*attn3*": 4}, 6), r"names \*attn3\*, which no weight is called"),
        (Palette({"*_weight": 4, "conv_*": 6}, covered=False), None),
        (Palette({"attn*": 4}, covered=False), "nothing about time_weight, conv_in_weight"),
    ],
)
def test_recipes_that_do_not_fit(half, palette, message):
    if message is None:
        assert len(palettize(half(), palette, "iOS17")) == len(NAMES)
        return
    with pytest.raises(OptionError, match=message):
        palettize(half(), palette, "iOS17")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not valid JSON"),
        ("[4]", "must be a JSON object"),
        ("{}", "must be a JSON object"),
        ('{"default": 5}', "8, 6, 4, 2 or 1 bits, not 5"),
        ('{"a": "6"}', "bits, not '6'"),
        ('{"a": true}', "bits, not True"),
        ('{"a": [6]}', r"bits, not \[6\]"),
    ],
)
def test_bad_recipes(tmp_path, text, message):
    file = tmp_path / "recipe.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(OptionError, match=message):
        read_recipe(file)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packing_is_coremltools_packing(bits):
    indices = np.random.default_rng(bits).integers(0, 2**bits, (7, 11)).astype(np.uint8)
    assert (pack(indices, bits) == pack_elements_into_bits(indices, bits)).all()


def test_it_can_be_stopped(half):
    def stop(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        palettize(half(), Palette(default=6), "iOS17", stop)
