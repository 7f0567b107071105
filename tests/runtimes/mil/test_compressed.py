"""Compressed weights against what coremltools decompresses itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kdexport.runtimes.mil.ops_compressed import unpack
from kdexport.runtimes.mil.package import read_package
from kdexport.runtimes.mil.precision import Float32
from kdexport.runtimes.mil.toolbox import coremltools, quiet

TESTED = {
    "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_cast",
    "constexpr_lut_to_dense", "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale",
    "constexpr_sparse_to_dense", "quantize", "dequantize",
}  # fmt: skip
RNG = np.random.default_rng(6)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("count", [1, 7, 8, 64, 101])
def test_unpacking(bits, count):
    numbers = RNG.integers(0, 1 << bits, count).astype(np.uint8)
    spread = (numbers[:, None] >> np.arange(bits)) & 1
    packed = np.packbits(spread.reshape(-1).astype(np.uint8), bitorder="little")
    np.testing.assert_array_equal(unpack(torch.from_numpy(packed), bits, count), numbers)


class Weights(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(16, 64, 3, padding=1)
        self.linear = torch.nn.Linear(64, 64)

    def forward(self, x):
        return self.linear(self.conv(x).permute(0, 2, 3, 1))


@pytest.fixture(scope="module")
def models(mil):
    """The same small network for iOS 16 and iOS 18, in float16."""
    torch.manual_seed(0)
    module, x = Weights(), torch.randn(1, 16, 6, 6)
    made = {
        opset: mil.converted(module, [x], opset, half=True, package=True)
        for opset in ("iOS16", "iOS18")
    }
    return made, {"x0": x.numpy()}


def palettize(optimize, **options):
    config = optimize.OpPalettizerConfig(mode="kmeans", weight_threshold=1, **options)
    return lambda model: optimize.palettize_weights(model, optimize.OptimizationConfig(config))


def quantize(optimize, **options):
    config = optimize.OpLinearQuantizerConfig(weight_threshold=1, **options)
    return lambda model: optimize.linear_quantize_weights(
        model, optimize.OptimizationConfig(config)
    )


def prune(optimize, **options):
    config = optimize.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=1)
    return lambda model: optimize.prune_weights(model, optimize.OptimizationConfig(config))


def jointly(first, second):
    def make(optimize, **options):
        config = {
            palettize: lambda: optimize.palettize_weights(
                first_done[0],
                optimize.OptimizationConfig(
                    optimize.OpPalettizerConfig(mode="kmeans", weight_threshold=1, **options)
                ),
                joint_compression=True,
            ),
            quantize: lambda: optimize.linear_quantize_weights(
                first_done[0],
                optimize.OptimizationConfig(
                    optimize.OpLinearQuantizerConfig(weight_threshold=1, **options)
                ),
                joint_compression=True,
            ),
        }
        first_done = []

        def compress(model):
            first_done.append(first(optimize, nbits=4)(model))
            return config[second]()

        return compress

    return make


blocks = {"granularity": "per_block", "block_size": 8}
grouped = {"granularity": "per_grouped_channel", "group_size": 16}
CASES = {
    "one bit": ("iOS16", palettize, {"nbits": 1}, {"constexpr_lut_to_dense"}),
    "two bits": ("iOS16", palettize, {"nbits": 2}, {"constexpr_lut_to_dense"}),
    "four bits": ("iOS16", palettize, {"nbits": 4}, {"constexpr_lut_to_dense"}),
    "six bits": ("iOS16", palettize, {"nbits": 6}, {"constexpr_lut_to_dense"}),
    "eight bits": ("iOS16", palettize, {"nbits": 8}, {"constexpr_lut_to_dense"}),
    "three bits": ("iOS18", palettize, {"nbits": 3}, {"constexpr_lut_to_dense"}),
    "six bits 18": ("iOS18", palettize, {"nbits": 6}, {"constexpr_lut_to_dense"}),
    "groups": ("iOS18", palettize, {"nbits": 4, **grouped}, {"constexpr_lut_to_dense"}),
    "groups of inputs": (
        "iOS18", palettize, {"nbits": 2, **grouped, "channel_axis": 1}, {"constexpr_lut_to_dense"},
    ),
    "vectors": ("iOS18", palettize, {"nbits": 4, "cluster_dim": 4}, {"constexpr_lut_to_dense"}),
    "scaled channels": (
        "iOS18", palettize, {"nbits": 4, "enable_per_channel_scale": True},
        {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"},
    ),
    "affine": ("iOS16", quantize, {"mode": "linear"}, {"constexpr_affine_dequantize"}),
    "symmetric": ("iOS16", quantize, {"mode": "linear_symmetric"}, {"constexpr_affine_dequantize"}),
    "int8 channels": (
        "iOS18", quantize, {"mode": "linear", "granularity": "per_channel"},
        {"constexpr_blockwise_shift_scale"},
    ),
    "int4 blocks": (
        "iOS18", quantize, {"mode": "linear_symmetric", "dtype": "int4", **blocks},
        {"constexpr_blockwise_shift_scale"},
    ),
    "uint4 blocks": (
        "iOS18", quantize, {"mode": "linear", "dtype": "uint4", **blocks},
        {"constexpr_blockwise_shift_scale"},
    ),
    "sparse": ("iOS16", prune, {}, {"constexpr_sparse_to_dense"}),
    "sparse 18": ("iOS18", prune, {}, {"constexpr_sparse_to_dense"}),
    "sparse palette": (
        "iOS18", jointly(prune, palettize), {"nbits": 4},
        {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"},
    ),
    "sparse integers": (
        "iOS18", jointly(prune, quantize), {"mode": "linear_symmetric"},
        {"constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"},
    ),
    "palette of integers": (
        "iOS18", jointly(palettize, quantize),
        {"mode": "linear_symmetric", "granularity": "per_tensor"},
        {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_as_coremltools_decompresses(mil, models, tmp_path, case):
    opset, recipe, options, kinds = CASES[case]
    made, feed = models
    optimize = coremltools("optimize.coreml")
    with quiet():
        compressed = recipe(optimize, **options)(made[opset])
        plain = optimize.decompress_weights(compressed)
        compressed.save(str(tmp_path / "small.mlpackage"))
        plain.save(str(tmp_path / "plain.mlpackage"))
    small, large = (read_package(tmp_path / f"{name}.mlpackage") for name in ("small", "plain"))
    assert kinds <= {each.op_type for each in small.function.operations}
    for keep in (False, True):
        evaluator = mil.Evaluator(small.function, keep_weights=keep)
        for _ in range(2):
            (result,) = evaluator.run(feed).values()
            (reference,) = mil.Evaluator(large.function).run(feed).values()
            assert np.isfinite(reference).all()
            np.testing.assert_allclose(result, reference, rtol=2e-3, atol=2e-3)
            # The same weights exactly where nothing is multiplied, else but for one rounding.
            assert mil.relative(result, reference) < 5e-4
    (exact,) = mil.Evaluator(small.function, Float32()).run(feed).values()
    assert mil.relative(exact, reference) < 2e-3


def test_constants_cast(mil):
    value = RNG.normal(size=(3, 4)).astype(np.float16)
    x = np.zeros((3, 4), np.float32)

    def body(mb, x):
        return mb.add(x=x, y=mb.constexpr_cast(source_val=value, output_dtype="fp32"))

    for opset in ("iOS16", "iOS18"):
        (result,) = mil.Evaluator(mil.make(body, {"x": x}, opset)).run({"x": x}).values()
        np.testing.assert_array_equal(result, value.astype(np.float32))


def test_vectors_along_any_axis(mil):
    """The second example of coremltools' documentation, with numbers."""
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], np.uint8)
    lut = np.array([[1, 2, 3], [4, 5, 6]], np.float32).reshape(1, 1, 1, 2, 3)
    kinds = coremltools("converters.mil.mil").types
    expected = {
        1: [[[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]],
            [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]]],
        2: [[[1, 2, 3, 1, 2, 3], [4, 5, 6, 1, 2, 3]],
            [[4, 5, 6, 4, 5, 6], [1, 2, 3, 1, 2, 3]]],
    }  # fmt: skip
    for axis, values in expected.items():

        def body(mb, x, axis=axis):
            packed = indices.astype(kinds.nptype_from_builtin(kinds.uint1))
            return mb.add(
                x=x, y=mb.constexpr_lut_to_dense(indices=packed, lut=lut, vector_axis=axis)
            )

        x = np.zeros(np.shape(values), np.float32)
        (result,) = mil.Evaluator(mil.make(body, {"x": x}, "iOS18")).run({"x": x}).values()
        np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantize_and_back(mil, kind, axis):
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32) * 3
    dtype = np.dtype(kind).type
    if axis is None:
        scale, zero, options = np.float32(0.05), dtype(9), {}
    else:
        scale = np.array([0.1, 0.05, 0.02], np.float32)
        zero, options = np.array([3, 0, 9], dtype), {"axis": axis}
    given = {"scale": scale, "zero_point": zero, **options}
    (steps,) = mil.apply("quantize", {"input": x}, output_dtype=kind, **given)
    (reference,) = mil.inferred("quantize", {"input": x}, output_dtype=kind, **given)
    assert steps.dtype == dtype
    np.testing.assert_array_equal(steps, reference)
    (back,) = mil.apply("dequantize", {"input": steps}, **given)
    inner = np.abs(x - back) <= np.max(scale)
    info = np.iinfo(dtype)
    assert (inner | (steps == info.min) | (steps == info.max)).all()
