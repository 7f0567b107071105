import numpy as np
from kdexport.export.coreml.half import to_half
from kdexport.export.coreml.metadata import PackageMetadata
from kdexport.export.coreml.save import save_packages
from kdexport.export.coreml.toolbox import deployment_target
from kdexport.runtimes.mil.package import read_package

LAYERS = ("time_", "conv_in_", "down_", "norm_", "attn_", "conv_out_")
INPUTS = ("sample_", "timestep_", "context_")


def named(program):
    return [each for each in program.functions["main"].operations if each.op_type != "const"]


def test_operations_are_called_after_their_layers(toy):
    names = {each.name: each.op_type for each in named(toy.program())}
    assert names["conv_in_conv2d"] == "conv"
    assert names["attn_to_k_linear"] == "linear"
    assert names["norm_group_norm_reduce_mean"] == "reduce_mean"
    assert names["attn_softmax"] == "softmax"
    assert names["sample_cast"] == "cast"
    assert all(name.startswith((*LAYERS, "model_", *INPUTS)) for name in names)


def test_weights_are_called_after_the_parameters(toy):
    program = toy.program()
    constants = [each for each in program.functions["main"].operations if each.op_type == "const"]
    large = {
        each.name: each.outputs[0].shape for each in constants if np.size(each.outputs[0].val) > 99
    }
    for name in ("conv_in", "down", "time", "attn_to_k", "attn_to_v", "attn_to_out_0", "conv_out"):
        weight = toy.module.inner.get_parameter(
            f"{name.replace('attn_', 'attn.').replace('_out_0', '_out.0')}.weight"
        )
        assert large.pop(f"{name}_weight") == tuple(weight.shape)
    assert set(large) == {"attn_to_q_weight"}


def test_names_are_unique_identifiers(toy):
    function = toy.program().functions["main"]
    outputs = [each.name for operation in function.operations for each in operation.outputs]
    assert len(set(outputs)) == len(outputs)
    assert all(name.isidentifier() for name in outputs)
    assert [each.name for each in function.outputs] == ["noise_pred"]
    assert list(function.inputs) == ["sample", "timestep", "context"]


def test_names_survive_float16_and_the_package(toy, tmp_path):
    names = {each.name for each in named(toy.program())}
    program = to_half(toy.program(), (), deployment_target("iOS17"))
    half = [each.name.removesuffix("_cast_fp16") for each in named(program)]
    assert len(names.intersection(half)) >= len(names) - 4  # casts of the edges come and go
    path = tmp_path / "Unet.mlpackage"
    save_packages(
        toy.program(),
        [path],
        inputs=toy.module.inputs,
        outputs=toy.module.outputs,
        precision="fp16",
        islands=(),
        target="iOS17",
        metadata=PackageMetadata("x"),
    )
    read = read_package(path).function.operations
    loaded = [each.name for each in read if each.op_type != "const"]
    assert set(loaded) >= {f"{layer}_cast_fp16" for layer in ("conv_in_conv2d", "attn_softmax")}
    assert all(name.startswith((*LAYERS, "model_", *INPUTS, "cast_")) for name in loaded)
