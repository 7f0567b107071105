"""The U-Net of every row of the zoo as a Core ML program, each form of attention among them."""

import itertools
import json

import numpy as np
import pytest
import torch
from kdexport.calib.islands import find_islands
from kdexport.core.compare import compare
from kdexport.core.coreml_options import COREML_ATTENTIONS, CoremlOptions
from kdexport.export.coreml.bundle import load_weights
from kdexport.export.coreml.convert import to_program
from kdexport.export.coreml.layer_names import identifier
from kdexport.export.coreml.parts import coreml_parts
from kdexport.export.coreml.plans import recipe_weights
from kdexport.export.coreml.ports import AppleModule
from kdexport.export.load import load_checkpoint
from kdexport.export.narrow import narrow_twin
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights
from kdexport.export.zoo import zoo
from kdexport.runtimes.mil.evaluate import Evaluator
from kdexport.runtimes.mil.precision import Float32, Simulated


def rows_by_unet():
    """Lists of rows whose narrow U-Nets have the same layers: one program is that of all."""
    groups = {}
    for name, entry in zoo().items():
        # A Core ML program has one size, and its precision is measured.
        config = {**narrow_twin(entry).unet.config, "sample_size": None, "upcast_attention": None}
        controlled = entry.controlnet is not None
        groups.setdefault(json.dumps([config, controlled], sort_keys=True), []).append(name)
    return list(groups.values())


GROUPS = rows_by_unet()
LAYERS = ("conv", "linear")
CASES = list(zip(GROUPS, itertools.cycle(COREML_ATTENTIONS)))


@pytest.mark.parametrize(("names", "attention"), CASES, ids=[f"{n[0]}-{a}" for n, a in CASES])
def test_unets(narrow, names, attention):
    checkpoint = load_checkpoint(str(narrow(names[0])))
    target = "iOS18" if attention == "sdpa" else "iOS16"
    check(checkpoint, CoremlOptions(attention=attention, target=target), {"height": 8, "width": 8})


def test_slices_that_do_not_divide_the_latents(narrow):
    """48x48 latents: 2304 queries in slices of 512, where Apple's converter drops the last 256."""
    checkpoint = load_checkpoint(str(narrow("sdxs-512-0.9")))
    options = CoremlOptions(attention="split-einsum-v2")
    check(checkpoint, options, {"height": 48, "width": 48})


def check(checkpoint, options, size):
    """The float32 program computes what the module does; in float16 it meets the gate."""
    (part,) = (each for each in coreml_parts(checkpoint, options, 1) if each.role == "unet")
    source = checkpoint.component("unet")
    inner = build_skeleton(source, torch.float32)
    load_weights(inner, open_weights(source, parameter_shapes(inner)))
    module = part.wrap(inner)
    nameable = {identifier(name) for name, shape in recipe_weights(module).items() if shape[1:]}
    feed = feeds(module, size)
    with torch.no_grad():
        tensors = (torch.from_numpy(array.astype(np.float32)) for array in feed.values())
        expected = module(*tensors)[0].numpy()
    program = to_program(module, [size], options.target)
    (function,) = program.functions.values()
    # A recipe names the weights of the program, no more and no fewer.
    weights = (each.inputs["weight"] for each in function.operations if each.op_type in LAYERS)
    assert {each.name for each in weights if each.op.op_type == "const"} == nameable
    exact = Evaluator(function, Float32()).run(feed)["noise_pred"]
    assert compare(exact, expected).relative_l2 < 1e-5
    component = part.describe(checkpoint, "fp16", size)
    islands = find_islands(program, component, [as_loop(component, feed)], lambda share: None)
    assert any("time_proj" in name for name in islands)
    kept = Simulated(lambda operation: operation.name not in islands)
    assert compare(Evaluator(function, kept).run(feed)["noise_pred"], exact).psnr_db > 50


def feeds(module: AppleModule, size):
    numbers = np.random.default_rng(0)
    feed = {}
    for port in module.inputs:
        array = numbers.normal(size=port.sizes(size))
        if port.name == "timestep":
            array[:] = 981
        if port.name == "time_ids":
            array[:] = [1024, 1024, 0, 0, 1024, 1024]
        feed[port.name] = array.astype(np.float16)
    return feed


def as_loop(component, feed):
    arrays = {component.ports[name]: array.astype(np.float32) for name, array in feed.items()}
    arrays["timestep"] = arrays["timestep"][0]
    arrays["encoder_hidden_states"] = arrays["encoder_hidden_states"][:, :, 0].transpose(0, 2, 1)
    return arrays


def test_every_row_is_there():
    assert {name for names in GROUPS for name in names} == set(zoo())
    assert {attention for _, attention in CASES} == set(COREML_ATTENTIONS)
