"""A whole U-Net in formats of every kind, in every precision of the evaluator."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from kdexport.core.compare import compare
from kdexport.core.coreml_formats import formats_of
from kdexport.core.coreml_options import CoremlOptions
from kdexport.core.formats import is_worth_it
from kdexport.core.recipe import LayerFormats, Recipe
from kdexport.export.coreml.bundle import load_weights
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.parts import coreml_parts
from kdexport.export.coreml.plans import plan_of, recipe_weights
from kdexport.export.coreml.save import save_packages
from kdexport.export.load import load_checkpoint
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.package import read_package
from kdexport.runtimes.mil.precision import AsWritten, Float32, Simulated

SIZE = {"height": 8, "width": 8}
# The query's scale is merged into its weights in the first only.
CASES = [("iOS17", "split-einsum"), ("iOS18", "sdpa")]


class Unet:
    """The U-Net of a narrow twin."""

    def __init__(self, folder, target, attention):
        checkpoint = load_checkpoint(str(folder))
        parts = coreml_parts(checkpoint, CoremlOptions(attention=attention, target=target), 1)
        (self.part,) = (each for each in parts if each.role == "unet")
        self.source, self.target = checkpoint.component("unet"), target
        self.module = self.make()
        numbers = np.random.default_rng(0)
        self.feed = {
            port.name: numbers.normal(size=port.sizes(SIZE)).astype(np.float16)
            for port in self.module.inputs
        } | {"timestep": np.full(1, 801, np.float16)}

    def make(self):
        inner = build_skeleton(self.source, torch.float32)
        load_weights(inner, open_weights(self.source, parameter_shapes(inner)))
        return self.part.wrap(inner)

    def run(self, module):
        with torch.no_grad():
            tensors = (torch.from_numpy(each).float() for each in self.feed.values())
            return module(*tensors)[0].numpy()

    def save(self, path, **options):
        """The package, and what of it stays in float32."""
        program = to_program(self.module, [SIZE], self.target)
        operations = program.functions["main"].operations
        chain = (each for each in operations if each.name.startswith("time_proj"))
        islands = {each.name for each in chain if each.op_type != "const"}
        (saved,) = save_packages(
            program,
            [path],
            inputs=self.module.inputs,
            outputs=self.module.outputs,
            precision="fp16",
            islands=islands,
            target=self.target,
            metadata=PackageMetadata("x"),
            **options,
        )
        return saved, islands


def plan_in_turn(weights, target):
    """Every format that a target has, one after the other; those of one bit would drown others."""
    names = [name for name in formats_of(target) if name[:8] not in ("palette1", "palette2")]
    large = [name for name, shape in weights.items() if is_worth_it(shape)]
    turns = zip(large, itertools.cycle(names), strict=False)
    recipe = Recipe({"unet": LayerFormats("float", dict(turns))})
    return plan_of(recipe, "unet", weights)


@pytest.mark.parametrize(("target", "attention"), CASES)
def test_every_format_in_a_unet(narrow, small, tmp_path, target, attention):
    unet = Unet(narrow("sdxs-512-0.9"), target, attention)
    ranges = small.ranges_of(unet.module, lambda: unet.run(unet.module))
    plan = plan_in_turn(recipe_weights(unet.module), target)
    saved, islands = unet.save(tmp_path / "Unet.mlpackage", plan=plan, ranges=ranges)
    assert {each.name: each.format for each in saved.compressed} == plan

    module = small.with_weights(unet.make(), plan)
    static = [name.removesuffix(".weight") for name, form in plan.items() if form.activations]
    small.quantize_inputs_of(module, static, ranges)
    expected = unet.run(module)
    function = read_package(saved.path).function
    kinds = Counter(each.op_type for each in function.operations)
    assert kinds["quantize"] == kinds["dequantize"] <= len(static)
    assert static
    assert kinds["quantize"]
    halves = Simulated(lambda operation: operation.name not in islands)
    for precision in (AsWritten(), halves, Float32()):
        given = Evaluator(function, precision).run(unet.feed)["noise_pred"]
        assert compare(given, expected).psnr_db > 55

    elements = sum(each.elements for each in saved.compressed)
    weights = sum(each.bytes for each in saved.compressed) + 2 * (saved.parameters - elements)
    file = saved.path / "Data/com.apple.CoreML/weights/weight.bin"
    assert file.stat().st_size == pytest.approx(weights, rel=0.06)
