"""What the tests of compressed programs share."""

from __future__ import annotations

import numpy as np
import torch
from kdexport.core.formats import FORMATS, is_worth_it
from kdexport.core.ranges import LayerRange, TensorRange
from kdexport.core.rounding import rounded
from kdexport.export.coreml.half import to_half
from kdexport.export.coreml.toolbox import deployment_target
from kdexport.runtimes.mil.precision import AsWritten
from kdexport.runtimes.mil.weights import Weights

WEIGHTS = (
    "time.weight",
    "conv_in.weight",
    "down.weight",
    "attn.to_q.weight",
    "attn.to_k.weight",
    "attn.to_v.weight",
    "attn.to_out.0.weight",
    "conv_out.weight",
)


def half_program(toy, target, islands=()):
    return to_half(toy.program(target), islands, deployment_target(target))


def plan_of_all(name, weights=WEIGHTS):
    return dict.fromkeys(weights, FORMATS[name])


def outputs(function):
    return {each.name: each for operation in function.operations for each in operation.outputs}


def unpacked(variable):
    """What a compressed weight is for the evaluator."""
    return Weights(AsWritten(), keep=False).read(variable).numpy()


def as_half(tensor):
    return tensor.detach().half().float().numpy()


def simulated(form, weight):
    """A weight of a module after it was stored; Core ML programs begin with float16."""
    return rounded(form, as_half(weight))


def rounded_module(toy, plan):
    """The toy with the weights of a plan."""
    return with_weights(toy.make(), plan)


def with_weights(module, plan):
    """A module, changed in place, with the weights that the formats of a plan leave."""
    with torch.no_grad():
        for name, form in plan.items():
            parameter = module.inner.get_parameter(name)
            parameter.copy_(torch.from_numpy(simulated(form, parameter)))
    return module


def layers(module):
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return {
        name: each
        for name, each in module.inner.named_modules()
        if isinstance(each, kinds) and is_worth_it(each.weight.shape)
    }


def tensor_range(values):
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return TensorRange(low, high, max(-low, high), max(-low, high))


def ranges_of(module, run):
    """Ranges of all layers while `run` is called."""
    found, handles = {}, []

    def note(name):
        def hook(layer, given, result):
            found[name] = LayerRange(tensor_range(given[0]), tensor_range(result))

        return hook

    for name, layer in layers(module).items():
        handles.append(layer.register_forward_hook(note(name)))
    run()
    for handle in handles:
        handle.remove()
    return found


def quantize_inputs_of(module, names, ranges):
    """Rounds the inputs of layers as `quantize` and `dequantize` do, in float32."""

    def hook(scale):
        def steps(layer, given):
            return (torch.clamp(torch.round(given[0] / scale), -128, 127) * scale,)

        return steps

    for name in names:
        scale = float(np.float16(ranges[name].input.signed))
        layers(module)[name].register_forward_pre_hook(hook(scale))
