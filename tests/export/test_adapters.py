"""Fused weights against the sum written out, in float64, and against layers that run beside."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.adapters import Adapter
from kdexport.core.errors import CheckpointError, WeightsError
from kdexport.core.options import ModelOptions, OnnxOptions
from kdexport.export.adapter_files import find_adapter
from kdexport.export.adapter_scale import configured_scale, require_plain_lora
from kdexport.export.adapter_tensors import AdapterTensor, LowRank
from kdexport.export.adapters import FusedTensor, fuse_adapters
from kdexport.export.load import load_checkpoint
from kdexport.export.prepare import prepare_export
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.tensors import PickledTensor
from kdexport.export.weights import open_weights
from safetensors.torch import load_file, save_file


def opened(checkpoint):
    return {
        name: open_weights(source, parameter_shapes(build_skeleton(source, torch.float32)))
        for name, source in checkpoint.components.items()
    }


@pytest.fixture(scope="module")
def base(micro_pipeline):
    """The checkpoint, its opened weights, and the tensors of each component."""
    checkpoint = load_checkpoint(str(micro_pipeline))
    weights = opened(checkpoint)
    return checkpoint, weights, {name: each.tensors for name, each in weights.items()}


@pytest.fixture
def modules(lora):
    return [("unet", path) for path in lora.UNET] + [("text_encoder", path) for path in lora.TEXT]


@pytest.fixture
def fused(base, tmp_path):
    """Fuses files or folders and gives the tensors of each component."""
    checkpoint, weights, _ = base

    def fuse(*adapters):
        sources = tuple(find_adapter(Adapter.parse(str(each))) for each in adapters)
        result = fuse_adapters(replace(checkpoint, adapters=sources), weights)
        return {name: each.tensors for name, each in result.items()}

    return fuse


@pytest.fixture
def check(base, lora):
    """Holds fused tensors against the sum, and everything else against what it was."""
    _, _, tensors = base

    def against(result, adapter, scale=1.0):
        updated = set()
        for (component, path), factors in adapter.items():
            name = lora.weight_name(tensors[component], path)
            before, after = tensors[component][name], result[component][name]
            assert after.shape == before.shape
            assert after.read().dtype == after.dtype == np.float32
            delta = scale * factors.delta().numpy().reshape(before.shape)
            expected = before.read().astype(np.float64) + delta
            error = np.linalg.norm(after.read() - expected) / np.linalg.norm(expected)
            assert error < 3e-7, path
            assert np.linalg.norm(delta) > 0.01 * np.linalg.norm(expected)
            updated.add((component, name))
        assert len(updated) == len(adapter)
        for component, each in result.items():
            for name, tensor in each.items():
                if (component, name) not in updated:
                    assert tensor is tensors[component][name]

    return against


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_kohya(base, lora, modules, fused, check, tmp_path, dtype):
    adapter = lora.make_adapter(base[2], modules, ranks=(4, 2, 7), alphas=(1.0, None, 8.0, 4.0))
    for factors in adapter.values():
        factors.down, factors.up = factors.down.to(dtype), factors.up.to(dtype)
    save_file(lora.kohya(adapter), tmp_path / "a.safetensors")
    check(fused(tmp_path / "a.safetensors"), adapter)
    check(fused(f"{tmp_path / 'a.safetensors'}:-0.4"), adapter, -0.4)


@pytest.mark.parametrize("form", ["diffusers", "peft_names"])
@pytest.mark.parametrize("parts", [("unet",), ("text_encoder",), ("unet", "text_encoder")])
def test_diffusers(base, lora, modules, fused, check, tmp_path, form, parts):
    chosen = [module for module in modules if module[0] in parts]
    adapter = lora.make_adapter(base[2], chosen, ranks=(4, 3))
    save_file(getattr(lora, form)(adapter), tmp_path / "pytorch_lora_weights.safetensors")
    check(fused(f"{tmp_path}:0.5"), adapter, 0.5)


def test_diffusers_of_before_2023(base, lora, fused, check, tmp_path):
    chosen = [("unet", path) for path in lora.UNET_ATTENTION]
    chosen += [("text_encoder", path) for path in lora.TEXT if "self_attn" in path]
    adapter = lora.make_adapter(base[2], chosen)
    torch.save(lora.diffusers_old(adapter), tmp_path / "pytorch_lora_weights.bin")
    check(fused(tmp_path), adapter)


def test_the_config_that_diffusers_saves(base, lora, modules, fused, check, tmp_path):
    """Ranks 4 and 2; alpha 6, but 3 in the feed-forward; rank-stabilised in the text encoder."""
    adapter = lora.make_adapter(base[2], modules, ranks=(4, 2))
    ranks = {path: len(factors.down) for (_, path), factors in adapter.items()}
    config = {"unet.peft_type": "LORA", "text_encoder.use_rslora": True}
    for component in ("unet", "text_encoder"):
        config |= {f"{component}.r": 4, f"{component}.lora_alpha": 6}
        few = {path: 2 for path, rank in ranks.items() if rank == 2}
        config[f"{component}.rank_pattern"] = few
        config[f"{component}.alpha_pattern"] = {r"ff\.net\.\d(\.proj)?": 3}
    save_file(
        lora.peft_names(adapter),
        tmp_path / "a.safetensors",
        metadata={"lora_adapter_metadata": json.dumps(config)},
    )
    for (component, path), factors in adapter.items():
        rank = len(factors.down)
        alpha = 3 if ".ff." in path else 6
        # `Factors` divides by the rank.
        factors.alpha = alpha * rank**0.5 if component == "text_encoder" else alpha
    check(fused(tmp_path / "a.safetensors"), adapter)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_peft(base, lora, modules, fused, check, tmp_path, component, binary):
    chosen = [module for module in modules if module[0] == component]
    adapter = lora.make_adapter(base[2], chosen, ranks=(3,))
    lora.save_peft(tmp_path / "a", adapter, binary, r=3, lora_alpha=2, use_rslora=True)
    for factors in adapter.values():
        factors.alpha = 2 * 3**0.5
    check(fused(f"{tmp_path / 'a'}:1.5"), adapter, 1.5)


def test_peft_in_subfolders(base, lora, modules, fused, check, tmp_path):
    adapter = lora.make_adapter(base[2], modules, ranks=(8,))
    for component in ("unet", "text_encoder"):
        mine = {key: value for key, value in adapter.items() if key[0] == component}
        # r and lora_alpha are both 8 where the config does not say.
        lora.save_peft(tmp_path / component, mine)
    check(fused(tmp_path), adapter)


def test_several_add_up(base, lora, modules, fused, tmp_path):
    _, _, tensors = base
    first = lora.make_adapter(tensors, modules, alphas=(2.0,))
    second = lora.make_adapter(tensors, [m for m in modules if m[0] == "unet"], ranks=(2,))
    for factors in second.values():
        factors.up = factors.up.flip(0)
    save_file(lora.kohya(first), tmp_path / "1.safetensors")
    save_file(lora.diffusers(second), tmp_path / "2.safetensors")
    result = fused(f"{tmp_path / '1.safetensors'}:0.5", f"{tmp_path / '2.safetensors'}:-2")
    for (component, path), factors in first.items():
        delta = 0.5 * factors.delta()
        if (component, path) in second:
            delta -= 2 * second[component, path].delta()
        before = lora.weight_of(tensors[component], path)
        expected = before.read() + delta.numpy().reshape(before.shape)
        after = lora.weight_of(result[component], path).read()
        assert np.linalg.norm(after - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("kernel", [None, 1, 3])
def test_a_fused_layer_acts_as_the_layers_side_by_side(lora, kernel):
    """What LoRA means: the layer's output, plus that of two small layers one after the other."""
    window = () if kernel is None else (kernel, kernel)
    weight = torch.randn(6, 5, *window)
    factors = lora.make_factors(weight.shape, rank=3, alpha=2.0)
    fused = weight + factors.delta().float().reshape(weight.shape)
    if kernel is None:
        run = torch.nn.functional.linear
        x, last = torch.randn(7, 5), run
    else:
        x = torch.randn(2, 5, 8, 9)
        last = torch.nn.functional.conv2d

        def run(x, weight):
            return last(x, weight, stride=2, padding=kernel // 2)

    beside = run(x, weight) + 2.0 / 3 * last(run(x, factors.down), factors.up)
    torch.testing.assert_close(run(x, fused), beside, rtol=1e-4, atol=1e-5)


def test_a_float16_checkpoint_is_fused_in_float32(base, lora, fused, tmp_path, micro_pipeline):
    folder = shutil.copytree(micro_pipeline, tmp_path / "half")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: t.half() for name, t in load_file(path).items()}, path)
    checkpoint = load_checkpoint(str(folder))
    weights = opened(checkpoint)
    adapter = lora.make_adapter({"unet": weights["unet"].tensors}, [("unet", lora.UNET[4])])
    save_file(lora.kohya(adapter), tmp_path / "a.safetensors")
    source = find_adapter(Adapter(str(tmp_path / "a.safetensors")))
    result = fuse_adapters(replace(checkpoint, adapters=(source,)), weights)
    before = lora.weight_of(weights["unet"].tensors, lora.UNET[4])
    after = lora.weight_of(result["unet"].tensors, lora.UNET[4])
    assert before.dtype == np.float16
    assert after.dtype == np.float32
    expected = before.read().astype(np.float64) + adapter["unet", lora.UNET[4]].delta().numpy()
    assert np.abs(after.read() - expected).max() < 1e-6


def test_kohya_names_of_sdxl_in_the_original_order(narrow, lora, tmp_path):
    """`input_blocks_3` and the like depend on how many layers a block has: here one, not two."""
    checkpoint = load_checkpoint(str(narrow("koala-700m")))
    weights = opened(checkpoint)
    unet = weights["unet"].tensors
    pairs = {
        "input_blocks_3_1_proj_in": "down_blocks.1.attentions.0.proj_in",
        "input_blocks_3_0_in_layers_2": "down_blocks.1.resnets.0.conv1",
        "output_blocks_1_1_proj_out": "up_blocks.0.attentions.1.proj_out",
    }
    adapter = lora.make_adapter({"unet": unet}, [("unet", path) for path in pairs.values()])
    names = {path.replace(".", "_"): name for name, path in pairs.items()}
    stored = {}
    for key, tensor in lora.kohya(adapter).items():
        stem, rest = key.removeprefix("lora_unet_").split(".", 1)
        stored[f"lora_unet_{names[stem]}.{rest}"] = tensor
    second = lora.make_adapter(
        {"text_encoder_2": weights["text_encoder_2"].tensors}, [("text_encoder_2", lora.TEXT[3])]
    )
    save_file(stored | lora.kohya(second), tmp_path / "a.safetensors")
    source = find_adapter(Adapter(str(tmp_path / "a.safetensors")))
    result = fuse_adapters(replace(checkpoint, adapters=(source,)), weights)
    for (component, path), factors in (adapter | second).items():
        before = lora.weight_of(weights[component].tensors, path)
        after = lora.weight_of(result[component].tensors, path)
        expected = before.read() + factors.delta().numpy().reshape(before.shape)
        assert np.linalg.norm(after.read() - expected) < 1e-6 * np.linalg.norm(expected)


def broken(adapter, lora):
    """Name to (tensors, message)."""
    kohya, named = lora.kohya(adapter), lora.diffusers(adapter)
    zeros = {key: torch.zeros_like(tensor) for key, tensor in named.items()}
    alpha = {"lora_unet_x.alpha": torch.tensor(1.0)}
    first = next(iter(adapter))[1].replace(".", "_")
    down = f"lora_unet_{first}.lora_down.weight"
    gone = {key.replace("down_blocks_0", "down_blocks_7"): t for key, t in kohya.items()}
    wide = {**kohya, down: torch.ones(4, 99, 3, 3)}
    single = {key: t for key, t in named.items() if "conv_in.lora.up" not in key}
    return {
        "another architecture": (gone, r"\d+ that no module takes \(lora_unet_down_blocks_7"),
        "another shape": (wide, r"1 of another shape \(lora_unet_conv_in.lora_down.weight \[4, 99"),
        "one half only": (single, r"1 that no module takes \(unet.conv_in.lora.down.weight\)"),
        "a bias": (
            {**named, "unet.conv_in.lora_B.bias": torch.ones(3)},
            r"1 that no module takes \(unet.conv_in.lora_B.bias\)",
        ),
        "no component": ({"conv_in.lora.down.weight": torch.ones(2)}, "no module takes"),
        "a component that is not there": (
            {f"lora_te2_{first}.lora_down.weight": torch.ones(2, 2),
             f"lora_te2_{first}.lora_up.weight": torch.ones(2, 2)},
            "2 that no module takes",
        ),
        "an alpha alone": ({**kohya, **alpha}, "cannot map the names"),
        "no up": ({key: t for key, t in kohya.items() if "up" not in key}, "cannot map the names"),
        "zeros": (zeros, "all its updates are zero"),
        "nothing": ({}, "changes nothing: it holds no tensors"),
        "DoRA": ({**kohya, "lora_unet_x.dora_scale": torch.ones(1)}, "is a DoRA adapter"),
        "LoHa": ({"lora_unet_x.hada_w1_a": torch.ones(1)}, "is a LoHa adapter"),
        "LoKr": ({"lora_unet_x.lokr_w1": torch.ones(1)}, "is a LoKr adapter"),
        "Tucker": ({"lora_unet_x.lora_mid.weight": torch.ones(1)}, "is a LoCon"),
        "PEFT without its config": (
            {"base_model.model.conv_in.lora_A.weight": torch.ones(1)},
            "without the adapter_config.json that belongs beside it",
        ),
    }  # fmt: skip


BROKEN = (
    "another architecture", "another shape", "one half only", "a bias", "no component",
    "a component that is not there", "an alpha alone", "no up", "zeros", "nothing", "DoRA", "LoHa",
    "LoKr", "Tucker", "PEFT without its config",
)  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_adapters_that_do_not_fit(base, lora, fused, tmp_path, case):
    adapter = lora.make_adapter(base[2], [("unet", path) for path in lora.UNET], alphas=(2.0,))
    cases = broken(adapter, lora)
    assert set(cases) == set(BROKEN)
    tensors, message = cases[case]
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message):
        fused(tmp_path / "a.safetensors")


def test_a_config_in_the_header_that_is_no_json(base, lora, fused, tmp_path):
    adapter = lora.make_adapter(base[2], [("unet", "conv_in")])
    metadata = {"lora_adapter_metadata": "{"}
    save_file(lora.peft_names(adapter), tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        fused(tmp_path / "a.safetensors")


def test_a_peft_adapter_of_a_component_that_is_not_there(base, lora, fused, tmp_path):
    adapter = lora.make_adapter(base[2], [("unet", "conv_in")])
    lora.save_peft(tmp_path / "text_encoder_2", adapter)
    with pytest.raises(CheckpointError, match="no 'text_encoder_2', only text_encoder, unet, vae"):
        fused(tmp_path)


def test_left_over_tensors_of_a_peft_adapter(base, lora, fused, tmp_path):
    adapter = lora.make_adapter(base[2], [("unet", "conv_in")], ranks=(8,))
    folder = lora.save_peft(tmp_path / "a", adapter)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.conv_out.weight"] = torch.ones(1)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(WeightsError, match=r"1 that no module takes \(base_model.model.conv_out"):
        fused(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "is of PEFT's kind IA3, which kdexport cannot fuse; it fuses LoRA"),
        ({"use_dora": True}, "sets use_dora to True"),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights to 'pissa'"),
        ({"init_lora_weights": 1}, "sets init_lora_weights to 1"),
        ({"layer_replication": [[0, 1]]}, "sets layer_replication"),
    ],
)
def test_other_kinds_of_peft(tmp_path, config, message):
    with pytest.raises(CheckpointError, match=message):
        require_plain_lora(config, tmp_path)


@pytest.mark.parametrize("start", [None, True, False, "gaussian", "eva"])
def test_plain_lora(tmp_path, start):
    require_plain_lora({"peft_type": "LORA", "init_lora_weights": start}, tmp_path)


def test_another_rank_than_the_config_says(tmp_path):
    with pytest.raises(CheckpointError, match=r"gives a\.b the rank 8, its tensors have 4"):
        configured_scale({}, "a.b", 4, tmp_path)


@settings(deadline=None)
@given(
    rank=st.integers(1, 256),
    alpha=st.floats(1e-3, 1e3),
    pattern=st.sampled_from(["to_q", "attn1.to_q", r"attn\d.to_q", "^blocks.0.attn1.to_q"]),
)
def test_patterns_match_the_end_of_a_name(tmp_path_factory, rank, alpha, pattern):
    file = tmp_path_factory.getbasetemp()
    config = {"r": 999, "rank_pattern": {pattern: rank}, "alpha_pattern": {pattern: alpha}}
    path = "blocks.0.attn1.to_q"
    assert configured_scale(config, path, rank, file) == alpha / rank
    stable = configured_scale({**config, "use_rslora": True}, path, rank, file)
    assert stable == pytest.approx(alpha / rank**0.5)
    # `to_q` is no end of `into_q`, and no beginning of `to_q.x`.
    for other in ("blocks.0.into_q", "blocks.0.attn1.to_q.x"):
        with pytest.raises(CheckpointError, match="the rank 999"):
            configured_scale(config, other, rank, file)


@settings(deadline=None, max_examples=25)
@given(first=st.floats(-3, 3).filter(bool), second=st.floats(-3, 3).filter(bool))
def test_scales_of_the_same_adapter_add_up(lora, first, second):
    factors = lora.make_factors((6, 5), rank=2)

    class Stored:
        shape, dtype = (6, 5), np.dtype(np.float32)

        def read(self):
            return np.ones((6, 5), np.float32)

    down, up = (
        AdapterTensor(name, PickledTensor(tensor.clone()))
        for name, tensor in (("down", factors.down), ("up", factors.up))
    )
    update = LowRank("unet", "x", down, up, 1.0)
    twice = FusedTensor(FusedTensor(Stored(), update, first), update, second).read()
    once = FusedTensor(Stored(), update, first + second).read()
    np.testing.assert_allclose(twice, once, rtol=1e-5, atol=1e-5)
    # Reading does not change what is read.
    np.testing.assert_array_equal(FusedTensor(Stored(), update, first + second).read(), once)


def test_an_export_takes_the_fused_weights(base, lora, modules, micro_pipeline, tmp_path, check):
    adapter = lora.make_adapter(base[2], modules)
    save_file(lora.kohya(adapter), tmp_path / "a.safetensors")
    extra = ModelOptions(adapters=(Adapter(str(tmp_path / "a.safetensors")),))
    checkpoint = load_checkpoint(str(micro_pipeline), extra=extra)
    prepared = prepare_export(checkpoint, OnnxOptions(max_steps=1, schedulers=()))
    for (component, path), factors in adapter.items():
        before = lora.weight_of(base[2][component], path).read()
        after = lora.weight_of(prepared.pipeline.weights[component].tensors, path).read()
        expected = before + factors.delta().numpy().reshape(before.shape)
        assert np.linalg.norm(after - expected) < 1e-6 * np.linalg.norm(expected)
