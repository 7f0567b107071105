"""A module with every kind of layer, and what it gives with rounded numbers."""

import copy
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from kdexport.core.formats import FORMATS
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.rounding import rounded
from kdexport.export.quantize_onnx.plan import PartPlan
from kdexport.export.skeleton import fake_mode
from kdexport.export.tensors import PickledTensor
from kdexport.export.to_onnx import write_onnx
from kdexport.export.weights import Weights
from kdexport.export.wrap import Port, Wrapped
from kdexport.runtimes.ort import OrtRunner
from torch import nn

LAYERS = ("conv", "bare", "query", "key", "head")


class Small(nn.Module):
    """Convolutions with and without bias, two products of one input, and a Gemm."""

    def __init__(self):
        super().__init__()
        self.config = {"name": "small"}
        torch.manual_seed(0)
        self.conv = nn.Conv2d(8, 32, 3, padding=1)
        self.bare = nn.Conv2d(32, 64, 3, padding=1, stride=2, bias=False)
        self.query = nn.Linear(64, 48)
        self.key = nn.Linear(64, 48, bias=False)
        self.head = nn.Linear(48, 64)
        self.table = nn.Embedding(64, 48)

    def forward(self, image):
        image = nn.functional.silu(self.conv(image))
        image = self.bare(image)
        tokens = image.flatten(2).transpose(1, 2)
        mixed = torch.tanh(self.query(tokens)) * self.key(tokens)
        rows = self.table(torch.arange(1).to(mixed.device))
        return image, self.head(mixed.mean(dim=1) + rows)


class WrappedSmall(Wrapped):
    """`Small` with ports."""

    def __init__(self, inner, edge=torch.float32):
        super().__init__(inner, edge)
        self.multiple = 2
        self.inputs = (Port("image", edge, ("batch", 8, "height", "width")),)
        self.outputs = (
            Port("map", edge, ("batch", 64, "height // 2", "width // 2")),
            Port("head", edge, ("batch", 64)),
        )

    def forward(self, *inputs):
        found = self.inner(inputs[0].to(self.core))
        return tuple(each.to(self.edge) for each in found)


def images(batch=2, height=8, width=12):
    random = np.random.default_rng(height * width + batch)
    return random.standard_normal((batch, 8, height, width), dtype=np.float32)


@torch.no_grad()
def run(module, image):
    return [each.numpy() for each in module(torch.from_numpy(image))]


def calibrate(module, image):
    """Ranges of every layer, as wide as the numbers are."""
    found = {}

    def hook(name):
        def look(_, inputs, output):
            found[name] = LayerRange(*(_range(each) for each in (inputs[0], output)))

        return look

    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers]
    run(module, image)
    for handle in handles:
        handle.remove()
    return found


def _range(tensor):
    low, high = min(0.0, float(tensor.min())), max(0.0, float(tensor.max()))
    return TensorRange(low, high, max(-low, high), max(-low, high))


def with_rounded_weights(module, plan):
    """A copy whose weights are what is left of them in the formats of a plan."""
    changed = copy.deepcopy(module)
    for name, tensor in changed.state_dict().items():
        if name in plan.formats:
            tensor.copy_(torch.from_numpy(rounded(plan.formats[name], tensor.numpy())))
    return changed


def with_rounded_activations(module, plan, quantize):
    """The same with what enters layers (and leaves convolutions) changed by `quantize`."""
    changed = with_rounded_weights(module, plan)
    for name, layer in changed.named_modules():
        form = plan.formats.get(f"{name}.weight")
        if form is None or form.activations is None:
            continue
        bounds = plan.ranges.get(name)
        layer.register_forward_pre_hook(
            lambda _, inputs, bounds=bounds, form=form: (
                quantize(inputs[0], bounds.input if bounds else None, form),
            )
        )
        if form.name == "int8-static" and isinstance(layer, nn.Conv2d) and not plan.signed:
            layer.register_forward_hook(
                lambda _, inputs, output, bounds=bounds, form=form: quantize(
                    output, bounds.output, form
                )
            )
    return changed


def plan_of(formats, ranges=None, signed=False, standard=False):
    known = {f"{name}.weight": FORMATS[form] for name, form in formats.items()}
    return PartPlan(
        formats=known,
        ranges=ranges or {},
        signed=signed,
        standard=standard,
        recipe="test",
        expected={},
        macs={},
    )


def export(module, plan, folder, *, opset=21, dtype=torch.float32, edge=torch.float32, static=None):
    """Writes a module, checks the file, and gives (what was written, the file, its proto)."""
    weights = Weights({n: PickledTensor(t) for n, t in module.state_dict().items()})
    wrapped = WrappedSmall(copy.deepcopy(module).to(dtype), edge)
    written = write_onnx(
        wrapped, fake_mode(), weights, folder, opset=opset, static=static or {}, plan=plan
    )
    path = folder / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    return written, path, onnx.load(path)


def run_onnx(path, image):
    with OrtRunner(path) as runner:
        return list(runner.run({"image": image}).values())


@pytest.fixture(scope="session")
def small():
    """The module, and what the tests do with it."""
    module = Small().eval().requires_grad_(False)
    return SimpleNamespace(
        module=module,
        ranges=calibrate(module, images()),
        images=images,
        run=run,
        run_onnx=run_onnx,
        export=export,
        plan_of=plan_of,
        with_rounded_weights=with_rounded_weights,
        with_rounded_activations=with_rounded_activations,
        layers=LAYERS,
    )
