"""Weights of a program in every format: what is stored, and what the program computes with it."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from kdexport.core.compare import compare
from kdexport.core.coreml_formats import FORMAT_TARGETS, formats_of
from kdexport.core.errors import ExportError, OptionError, RecipeError
from kdexport.core.formats import FORMATS, palette_count, stored_bytes
from kdexport.export.coreml.compress import compress
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.save import save_packages
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.package import read_package
from kdexport.runtimes.mil.precision import AsWritten, Float32, Simulated

STATIC = "int8-static"
# Of weights alone, with the oldest and the newest target that has them.
CASES = [
    (name, target)
    for target in ("iOS16", "iOS18")
    for name in formats_of(target)
    if name not in ("float", STATIC)
]
KINDS = {
    ("palette", "iOS16"): {"constexpr_lut_to_dense"},
    ("palette", "iOS18"): {"constexpr_lut_to_dense"},
    ("integer", "iOS16"): {"constexpr_affine_dequantize"},
    ("integer", "iOS18"): {"constexpr_blockwise_shift_scale"},
    ("sparse", "iOS18"): {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"},
}
# Those that test_chunk.py leaves.
CHUNKED = [("int8", "iOS17"), ("int4", "iOS18"), ("sparse50-palette6", "iOS18")]


def save(toy, paths, target, plan=None, **changes):
    arguments = {"precision": "fp16", "islands": toy.islands, "plan": plan, **changes}
    return save_packages(
        toy.program(target),
        paths,
        inputs=toy.module.inputs,
        outputs=toy.module.outputs,
        target=target,
        metadata=PackageMetadata("x"),
        **arguments,
    )


@pytest.fixture(scope="module")
def plain(toy, tmp_path_factory):
    """Packages in float16, by target."""
    folder = tmp_path_factory.mktemp("plain")
    return {
        target: save(toy, [folder / target / "Unet.mlpackage"], target)[0]
        for target in ("iOS16", "iOS18")
    }


def weight_file(package):
    return (package / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, toy, small, tmp_path_factory):
    """A package in one format, and the toy with the weights that the format leaves."""
    name, target = request.param
    plan, folder = small.plan_of_all(name), tmp_path_factory.mktemp("case")
    (saved,) = save(toy, [folder / "Unet.mlpackage"], target, plan)
    return SimpleNamespace(
        form=FORMATS[name],
        target=target,
        saved=saved,
        function=read_package(saved.path).function,
        module=small.rounded_module(toy, plan),
    )


def test_weights_are_those_of_the_simulation(small, case):
    assert {each.name for each in case.saved.compressed} == set(small.WEIGHTS)
    assert {each.format for each in case.saved.compressed} == {case.form}
    variables = small.outputs(case.function)
    for each in case.saved.compressed:
        found = small.unpacked(variables[each.constant])
        expected = case.module.inner.get_parameter(each.name).numpy()
        # Scales are rounded to float16, and so is what they are multiplied with.
        loose = {"rtol": 2**-10, "atol": 2**-24}
        if case.form.kind == "palette":
            assert (found == expected).all()
        else:
            np.testing.assert_allclose(found, expected, **loose)
        theirs = variables[each.constant].op.materialized_val_inference()
        np.testing.assert_allclose(found, theirs, **loose)


def test_programs_compute_with_them(toy, case):
    function = case.function
    kind = "sparse" if case.form.sparse else case.form.kind
    opset = "iOS18" if case.target == "iOS18" else "iOS16"
    assert KINDS[kind, opset] <= {each.op_type for each in function.operations}
    expected = toy.expected(case.module, toy.feed)
    halves = Simulated(lambda operation: operation.name not in toy.islands)
    for precision, least in ((AsWritten(), 50), (halves, 50), (Float32(), 60)):
        given = Evaluator(function, precision).run(toy.feed)["noise_pred"]
        assert compare(given, expected).psnr_db > least


def test_sizes_are_those_of_the_formats(toy, small, plain, case):
    for each in case.saved.compressed:
        shape = toy.module.inner.get_parameter(each.name).shape
        assert each.bytes == stored_bytes(case.form, shape)
        assert each.elements == shape.numel()
    expected = sum(each.bytes - 2 * each.elements for each in case.saved.compressed)
    found = len(weight_file(case.saved.path)) - len(weight_file(plain[case.target].path))
    # What lies in the file begins at multiples of 64 bytes, after 64 that describe it.
    assert abs(found - expected) < 4 * 128 * len(small.WEIGHTS)
    assert case.saved.parameters == plain[case.target].parameters


@pytest.mark.parametrize(("name", "target"), CHUNKED)
def test_chunks_give_what_the_whole_gives(toy, small, tmp_path, name, target):
    plan = small.plan_of_all(name)
    (whole,) = save(toy, [tmp_path / "Unet.mlpackage"], target, plan)
    paths = [tmp_path / f"UnetChunk{number}.mlpackage" for number in (1, 2)]
    chunks, feed = save(toy, paths, target, plan), dict(toy.feed)
    for each in chunks:
        feed |= Evaluator(read_package(each.path).function).run(feed)
    expected = Evaluator(read_package(whole.path).function).run(toy.feed)["noise_pred"]
    assert (feed["noise_pred"] == expected).all()
    assert sum(each.parameters for each in chunks) == whole.parameters
    compressed = [each for chunk in chunks for each in chunk.compressed]
    assert sorted(each.name for each in compressed) == sorted(small.WEIGHTS)


def test_groups_of_channels(toy, small):
    program = small.half_program(toy, "iOS18")
    compressed = compress(program, small.plan_of_all("palette4-grouped"), "iOS18")
    palettes = {}
    for each in compressed:
        palettes[each.name] = small.outputs(program.functions["main"])[each.constant].op.lut.shape[
            0
        ]
        shape = toy.module.inner.get_parameter(each.name).shape
        assert palettes[each.name] == palette_count(each.format, shape)
    assert palettes["down.weight"] == 4
    # 4 channels, and palettes as large as the indices.
    assert palettes["conv_out.weight"] == 1


@pytest.mark.parametrize(("name", "target"), CHUNKED)
def test_the_same_bytes_each_time(toy, small, tmp_path, name, target):
    paths, plan = [tmp_path / each / "Unet.mlpackage" for each in "ab"], small.plan_of_all(name)
    files = [weight_file(save(toy, [path], target, plan)[0].path) for path in paths]
    assert files[0] == files[1]


def test_mixtures(toy, small, tmp_path):
    """Formats beside each other; what is not named, or is in float32, stays."""
    plan = {
        "conv_in.weight": FORMATS["int8"],
        "down.weight": FORMATS["palette4-grouped"],
        "attn.to_k.weight": FORMATS["int4"],
        "attn.to_v.weight": FORMATS["float"],
        "time.weight": FORMATS["palette3"],
        "conv_out.weight": FORMATS["sparse50-palette6"],
    }
    islands = {*toy.islands, "conv_in_conv2d"}
    (saved,) = save(toy, [tmp_path / "Unet.mlpackage"], "iOS18", plan, islands=islands)
    found = {each.name: each.format.name for each in saved.compressed}
    expected = {name: form.name for name, form in plan.items() if form.kind != "float"}
    del expected["conv_in.weight"]
    assert found == expected
    given = Evaluator(read_package(saved.path).function).run(toy.feed)["noise_pred"]
    del plan["conv_in.weight"]
    expected = toy.expected(small.rounded_module(toy, plan), toy.feed)
    assert compare(given, expected).psnr_db > 50


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("palette3", "iOS17", "came with iOS18, and the target is iOS17; choose --target iOS18 or"),
        (
            "palette6-grouped",
            "iOS16",
            "choose --target iOS18 or a format of iOS16: float",
        ),
        ("int4", "iOS17", "'int4' came with iOS18"),
        ("sparse50-palette6", "iOS17", "'sparse50-palette6' came with iOS18"),
        (STATIC, "iOS16", "'int8-static' came with iOS17"),
        ("int8-dynamic", "iOS18", "Core ML lacks the format 'int8-dynamic': it finds no ranges"),
        ("fp8", "iOS18", "Core ML lacks the format 'fp8': it has no 8-bit floating-point numbers"),
    ],
)
def test_formats_that_a_target_lacks(toy, small, name, target, message):
    with pytest.raises(OptionError, match=message):
        compress(toy.program(target), small.plan_of_all(name), target)


def test_every_format_is_known():
    assert set(FORMATS) - set(FORMAT_TARGETS) == {"int8-dynamic", "fp8"}
    assert set(FORMAT_TARGETS) <= set(FORMATS)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (("down.weigth",), "has no weights down.weigth that could be compressed; it has time_weig"),
        (("norm.weight",), "has no weights norm.weight"),
        (("attn.to_k.weight", "attn.to_k_weight"), "are both called 'attn_to_k_weight' in a Core"),
    ],
)
def test_weights_that_are_not_there(toy, small, weights, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        compress(small.half_program(toy, "iOS17"), small.plan_of_all("palette6", weights), "iOS17")


def test_weights_that_are_no_numbers(toy, small):
    program = small.half_program(toy, "iOS17")
    small.outputs(program.functions["main"])["down_weight_to_fp16"].val[0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match=r"The weight down\.weight has infinite values or NaN"):
        compress(program, small.plan_of_all("int8"), "iOS17")


def test_it_can_be_stopped(toy, small):
    def stop(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(
            small.half_program(toy, "iOS17"), small.plan_of_all("palette6"), "iOS17", progress=stop
        )
