"""Rounding to float16, the search for overflow, and what a precision search needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kdexport.core.errors import RunError
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.operations import evaluate_operation
from kdexport.runtimes.mil.overflow import OverflowRunError
from kdexport.runtimes.mil.precision import AsWritten, Float32, Simulated, narrowed
from kdexport.runtimes.mil.toolbox import coremltools, quiet

RNG = np.random.default_rng(7)


class Mixed(torch.nn.Module):
    """Enough kinds of operations to tell precisions apart; `loud` overflows float16 on request."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 8, eps=1e-5)
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x, loud):
        h = torch.nn.functional.silu(self.norm(self.conv(x)))
        h = self.linear(h.permute(0, 2, 3, 1)) * loud
        return torch.softmax(h * h, -1) + torch.log(torch.abs(h) + 1e-7) / 10


@pytest.fixture(scope="module")
def mixed(mil):
    torch.manual_seed(0)
    module = Mixed()
    examples = [torch.randn(2, 3, 6, 5), torch.ones(1)]
    with torch.no_grad():
        reference = module(*examples).numpy()
    return mil.converted(module, examples), mil.feed(examples), reference


def half_program(program, selector):
    """coremltools' own conversion of some operations to float16."""
    ct = coremltools()
    passes = coremltools("converters.mil.mil.passes.defs.quantization")
    with quiet():
        return ct.convert(
            program,
            source="milinternal",
            convert_to="milinternal",
            compute_precision=passes.FP16ComputePrecision(op_selector=selector),
            minimum_deployment_target=ct.target.iOS17,
        )


def run(program, feed, precision=None, **options):
    evaluator = Evaluator(program.functions["main"], precision, **options)
    (result,) = evaluator.run(feed).values()
    return result


@pytest.mark.parametrize(
    "keep", [(), ("softmax",), ("linear", "mul", "log"), ("conv", "silu", "add")]
)
def test_simulated_rounding_is_what_coremltools_writes(mil, mixed, keep):
    program, feed, reference = mixed

    def rounds(operation):
        return operation.op_type not in keep

    simulated = run(program, feed, Simulated(rounds))
    names = [each.op_type for each in program.functions["main"].operations]
    written = half_program(mil_copy(mil, feed), rounds)
    assert [each.op_type for each in program.functions["main"].operations] == names
    assert {"fp16", "fp32"} >= types(written)
    np.testing.assert_allclose(run(written, feed), simulated, rtol=1e-6, atol=1e-7)
    assert 30 < mil.psnr(simulated, reference) < 90
    assert mil.psnr(run(program, feed, Float32()), reference) > 120
    assert mil.psnr(run(written, feed, Float32()), reference) > 50


def mil_copy(mil, feed):
    """The program once more, since coremltools changes what it converts."""
    torch.manual_seed(0)
    return mil.converted(Mixed(), [torch.from_numpy(each) for each in feed.values()])


def types(program):
    kinds = coremltools("converters.mil.mil").types
    return {
        kinds.builtin_to_string(variable.dtype)
        for operation in program.functions["main"].operations
        for variable in operation.outputs
        if operation.op_type != "const"
    }


def test_results_of_float16_are_float16s(mil):
    x = RNG.normal(size=(3, 4)).astype(np.float16)
    seen = []

    def body(mb, x):
        return mb.exp(x=mb.mul(x=x, y=np.float16(0.1), name="scaled"), name="grown")

    evaluator = Evaluator(
        mil.make(body, {"x": x}),
        observer=lambda operation, inputs, outputs: seen.append((operation, inputs, outputs)),
    )
    (result,) = evaluator.run({"x": x}).values()
    step = (x.astype(np.float32) * np.float32(np.float16(0.1))).astype(np.float16)
    expected = np.exp(step.astype(np.float32)).astype(np.float16)
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, expected)
    assert [each[0].name for each in seen] == ["scaled", "grown"]
    assert all(tensor.dtype == torch.float32 for _, _, outputs in seen for tensor in outputs)
    np.testing.assert_array_equal(seen[1][1]["x"], step)
    (wide,) = Evaluator(mil.make(body, {"x": x}), Float32()).run({"x": x}).values()
    assert wide.dtype == np.float32


def test_rounding_leaves_what_others_read_alone(mil):
    """A view that is rounded shares its memory with an operand that is not."""
    x = np.array([[1.0001, 2.0001]], np.float32)

    def body(mb, x):
        held = mb.add(x=x, y=np.float32(0), name="held")
        turned = mb.transpose(x=held, perm=[1, 0], name="turned")
        summed = mb.reduce_sum(x=turned, axes=[1], name="summed")
        return summed, mb.identity(x=held, name="again")

    function = mil.make(body, {"x": x})
    names = ("turned", "summed")
    results = Evaluator(function, Simulated(lambda operation: operation.name in names)).run(
        {"x": x}
    )
    np.testing.assert_array_equal(results["summed"], x.astype(np.float16).astype(np.float32)[0])
    np.testing.assert_array_equal(results["again"], x)


def test_a_planted_overflow_is_found_and_named(mil, mixed):
    program, feed, _ = mixed
    loud = {**feed, "x1": np.full(1, 3e3, np.float32)}
    everything = Simulated(lambda operation: True)
    with pytest.raises(OverflowRunError) as caught:
        run(program, loud, everything)
    overflow = caught.value.overflow
    assert overflow.op_type == "mul"
    assert overflow.kind == "overflow"
    squared = next(
        each for each in program.functions["main"].operations if each.name == overflow.name
    )
    assert squared.inputs["x"] is squared.inputs["y"]  # h * h, not the first product
    found = []
    run(program, loud, Float32(), observer=lambda operation, _, outputs: found.append(
        (operation.name, float(outputs[0].abs().max()))))  # fmt: skip
    assert overflow.magnitude == pytest.approx(dict(found)[overflow.name], rel=2e-3)
    assert overflow.magnitude > 65504
    message = str(caught.value)
    assert message.startswith(f"The operation 'mul' ('{overflow.name}') gives values up to ")
    assert message.endswith("keep this operation in float32.")


def test_overflows_are_recorded_on_request(mixed):
    program, feed, _ = mixed
    loud = {**feed, "x1": np.full(1, 3e3, np.float32)}
    found = []
    result = run(program, loud, Simulated(lambda operation: True), on_overflow=found.append)
    assert [each.kind for each in found][:2] == ["overflow", "nan"]
    assert np.isnan(result).any()
    # Once the named operation and what reads it stay in float32, nothing overflows.
    names = {each.name for each in found}
    rest = Simulated(lambda operation: operation.name not in names)
    assert np.isfinite(run(program, loud, rest)).all()


def test_an_operand_that_float16_cannot_hold(mil):
    x = np.array([7e4, 1.0], np.float32)

    def body(mb, x):
        return mb.sigmoid(x=mb.mul(x=x, y=np.float32(2), name="kept"), name="read")

    function = mil.make(body, {"x": x})
    with pytest.raises(OverflowRunError, match=r"'sigmoid' \('read'\) reads values up to 1.4e\+05"):
        Evaluator(function, Simulated(lambda operation: operation.name == "read")).run({"x": x})


def test_infinities_that_were_given_are_no_overflow(mil):
    x = np.array([[-np.inf, 0.0, 1.0]], np.float16)
    (result,) = mil.apply("softmax", {"x": x}, axis=-1)
    np.testing.assert_allclose(result, [[0, 0.26894, 0.73106]], rtol=1e-3)
    with pytest.raises(OverflowRunError, match=r"'softmax' \('layer'\) gives NaN"):
        mil.apply("softmax", {"x": x[:, :1]}, axis=-1)
    with pytest.raises(OverflowRunError, match=r"'log' \('layer'\) gives infinite values beside"):
        mil.apply("log", {"x": np.array([0.0, 2.0], np.float32)}, epsilon=np.float32(0))


def test_casts_round_and_overflow(mil):
    x = np.array([65519.0, 0.1], np.float32)
    (result,) = mil.apply("cast", {"x": x}, dtype="fp16")
    np.testing.assert_array_equal(result, np.array([65504, 0.1], np.float16))
    with pytest.raises(OverflowRunError, match=r"'cast' \('layer'\) gives values up to 6.552e\+04"):
        mil.apply("cast", {"x": x + 1}, dtype="fp16")


def test_one_operation_again_on_other_inputs(mixed):
    """What a search does: the error that rounding the inputs of one operation makes."""
    program, feed, _ = mixed
    errors = {}

    def observe(operation, inputs, outputs):
        rounded = {
            name: narrowed(value)
            if isinstance(value, torch.Tensor) and value.is_floating_point()
            else value
            for name, value in inputs.items()
        }
        again = evaluate_operation(operation, rounded)
        same = evaluate_operation(operation, inputs)
        assert all(torch.equal(a, b) for a, b in zip(same, outputs, strict=True))
        errors[operation.name] = float((again[0] - outputs[0]).abs().max())

    run(program, feed, Float32(), observer=observe)
    kinds = [
        each.op_type for each in program.functions["main"].operations if each.op_type != "const"
    ]
    assert len(errors) == len(kinds)
    assert max(errors.values()) > 0


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_narrowing(owned, turned):
    values = torch.randn(6, 7) * 100
    expected = values.half().float()
    given = values.clone().t() if turned else values.clone()
    result = narrowed(given, owned)
    assert torch.equal(result.t() if turned else result, expected)
    if not owned:
        assert torch.equal(given.t() if turned else given, values)


def test_an_unknown_operation_is_named(mil):
    x = np.zeros((1, 4, 4, 4), np.float32)

    def body(mb, x):
        boxes = np.zeros((1, 4), np.float32)
        return mb.crop_resize(x=x, boxes=boxes, box_indices=np.zeros(1, np.int32), name="cut")

    function = mil.make(body, {"x": x})
    with pytest.raises(RunError, match=r"operation 'crop_resize' \('cut'\) is not supported"):
        Evaluator(function, AsWritten())


def test_every_supported_operation_is_tested(request):
    """The tables of this folder's tests name each operation that the evaluator has."""
    from importlib.util import module_from_spec, spec_from_file_location

    from kdexport.runtimes.mil.operations import MOVES, OPERATIONS

    tested = set()
    for file in request.path.parent.glob("test_*.py"):
        if "\nTESTED = " in file.read_text(encoding="utf-8"):
            spec = spec_from_file_location(f"tested_{file.stem}", file)
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            tested |= module.TESTED
    supported = {name.split("@")[0] for name in OPERATIONS}
    assert supported == tested
    assert supported >= MOVES
    assert len(supported) > 130
