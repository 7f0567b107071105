"""Adapters in the export against diffusers' `load_lora_weights` and peft's `merge_and_unload`."""

from dataclasses import replace

import diffusers
import pytest
import torch
from kdexport.core.adapters import Adapter
from kdexport.core.errors import CheckpointError, DependencyError
from kdexport.export.adapter_files import find_adapter
from kdexport.export.adapters import fuse_adapters
from kdexport.export.load import load_checkpoint
from kdexport.export.skeleton import build_skeleton, parameter_shapes
from kdexport.export.weights import open_weights
from kdexport.runtimes import torch_lora
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

UNET_TARGETS = ["to_q", "to_out.0", "ff.net.2", "conv1", "proj_in", "time_emb_proj", "conv_in"]
TEXT_TARGETS = ["q_proj", "out_proj", "fc1"]


def pipeline_of(folder):
    kind = getattr(diffusers, load_checkpoint(str(folder)).pipeline_class)
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def exported(folder, *adapters):
    """The weights that an export writes, by component."""
    checkpoint = load_checkpoint(str(folder))
    sources = tuple(find_adapter(each) for each in adapters)
    weights = {
        name: open_weights(source, parameter_shapes(build_skeleton(source, torch.float32)))
        for name, source in checkpoint.components.items()
    }
    result = fuse_adapters(replace(checkpoint, adapters=sources), weights)
    return {name: each.tensors for name, each in result.items()}


def referenced(folder, *adapters):
    """diffusers' pipeline after the reference has fused the adapters."""
    pipeline, checkpoint = pipeline_of(folder), load_checkpoint(str(folder))
    sources = tuple(find_adapter(each) for each in adapters)
    with torch.no_grad():
        torch_lora.fuse_adapters(pipeline, replace(checkpoint, adapters=sources))
    return pipeline


def assert_same(tensors, pipeline, folder, touched):
    """The exported weights are those of the pipeline, and differ from the folder's own."""
    plain = pipeline_of(folder)
    for component in touched:
        module, before = getattr(pipeline, component), getattr(plain, component).state_dict()
        after, changed = module.state_dict(), 0
        assert set(after) == set(before)
        for name, tensor in after.items():
            if name not in tensors[component]:
                continue
            ours = torch.from_numpy(tensors[component][name].read().copy()).float()
            torch.testing.assert_close(ours, tensor, rtol=1e-5, atol=1e-6)
            changed += not torch.equal(tensor, before[name])
        assert changed == touched[component]


def randomize(module):
    """Trains an adapter, so to speak: its up projections begin as zeros."""
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if "lora_" in name:
                tensor.normal_(0, 0.2)


@pytest.fixture
def saved(micro_pipeline, tmp_path):
    """Trains adapters with diffusers and peft and saves them as the training scripts do."""

    def save(folder, unet, text=None, config=True):
        torch.manual_seed(0)
        pipeline = pipeline_of(micro_pipeline)
        options = {}
        for component, settings in (("unet", unet), ("text_encoder", text)):
            if settings is None:
                continue
            module = getattr(pipeline, component)
            module.add_adapter(settings)
            randomize(module)
            options[f"{component}_lora_layers"] = get_peft_model_state_dict(module)
            if config:
                name = f"{component}_lora_adapter_metadata"
                options[name] = module.peft_config["default"].to_dict()
        pipeline.save_lora_weights(tmp_path / folder, **options)
        return tmp_path / folder

    return save


def counts(pipeline, targets):
    """How many modules of a component the targets name."""
    return sum(
        any(name == each or name.endswith(f".{each}") for each in targets)
        for name, module in pipeline.named_modules()
        if hasattr(module, "weight")
    )


@pytest.mark.parametrize("config", [True, False], ids=["with config", "without"])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_what_diffusers_saves(micro_pipeline, saved, scale, config):
    # Without its config a file of diffusers means a scale of 1.
    alpha = 8 if config else 4
    folder = saved(
        "a",
        LoraConfig(r=4, lora_alpha=alpha, target_modules=UNET_TARGETS),
        LoraConfig(r=4, lora_alpha=alpha, target_modules=TEXT_TARGETS),
        config=config,
    )
    pipeline = pipeline_of(micro_pipeline)
    touched = {
        "unet": counts(pipeline.unet, UNET_TARGETS),
        "text_encoder": counts(pipeline.text_encoder, TEXT_TARGETS),
    }
    pipeline.load_lora_weights(folder)
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
    tensors = exported(micro_pipeline, Adapter(str(folder), scale))
    assert_same(tensors, pipeline, micro_pipeline, touched)
    reference = referenced(micro_pipeline, Adapter(str(folder), scale))
    assert_same(tensors, reference, micro_pipeline, touched)


def test_ranks_alphas_and_rslora_by_pattern(micro_pipeline, saved):
    settings = LoraConfig(
        r=4,
        lora_alpha=2,
        use_rslora=True,
        rank_pattern={"to_q": 2, "conv1": 3},
        alpha_pattern={r"ff\.net\.2": 5, "conv1": 6},
        target_modules=UNET_TARGETS,
    )
    folder = saved("a", settings)
    pipeline = pipeline_of(micro_pipeline)
    touched = {"unet": counts(pipeline.unet, UNET_TARGETS)}
    pipeline.load_lora_weights(folder)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    tensors = exported(micro_pipeline, Adapter(str(folder)))
    assert_same(tensors, pipeline, micro_pipeline, touched)
    assert_same(tensors, referenced(micro_pipeline, Adapter(str(folder))), micro_pipeline, touched)


def kohya_file(lora, folder, path, **settings):
    checkpoint = exported(folder)
    modules = [("unet", each) for each in lora.UNET] + [
        ("text_encoder", each) for each in lora.TEXT
    ]
    adapter = lora.make_adapter(checkpoint, modules, **settings)
    save_file(lora.kohya(adapter), path)
    return {"unet": len(lora.UNET), "text_encoder": len(lora.TEXT)}


@pytest.mark.parametrize(
    "settings",
    [{"alphas": (2.0,)}, {"alphas": (None,)}, {"dtype": torch.float16, "alphas": (2.0,)}],
    ids=["alpha", "no alpha", "float16"],
)
def test_kohya(lora, micro_pipeline, tmp_path, settings):
    path = tmp_path / "a.safetensors"
    touched = kohya_file(lora, micro_pipeline, path, **settings)
    tensors = exported(micro_pipeline, Adapter(str(path), 0.7))
    reference = referenced(micro_pipeline, Adapter(str(path), 0.7))
    assert_same(tensors, reference, micro_pipeline, touched)
    if "dtype" in settings:
        # diffusers itself would round the product to float16.
        return
    pipeline = pipeline_of(micro_pipeline)
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    assert_same(tensors, pipeline, micro_pipeline, touched)


def test_kohya_with_another_alpha_and_rank_in_every_module(lora, micro_pipeline, tmp_path):
    """Where diffusers (0.42.1) gives every module the most common alpha, the reference does not."""
    path = tmp_path / "a.safetensors"
    settings = {"ranks": (4, 2, 7), "alphas": (1.0, None, 8.0, 4.0)}
    touched = kohya_file(lora, micro_pipeline, path, **settings)
    tensors = exported(micro_pipeline, Adapter(str(path)))
    assert_same(tensors, referenced(micro_pipeline, Adapter(str(path))), micro_pipeline, touched)


def test_sdxl(lora, narrow, tmp_path):
    folder, path = narrow("koala-700m"), tmp_path / "a.safetensors"
    weights = exported(folder)
    unet = ("down_blocks.1.attentions.0.proj_in", "up_blocks.0.resnets.0.conv1")
    modules = [("unet", each) for each in unet]
    modules += [(name, lora.TEXT[3]) for name in ("text_encoder", "text_encoder_2")]
    tensors = lora.kohya(lora.make_adapter(weights, modules, alphas=(3.0,)))
    renamed = {
        key.replace("unet_down_blocks_1_attentions_0", "unet_input_blocks_3_1")
        .replace("unet_up_blocks_0_resnets_0_conv1", "unet_output_blocks_0_0_in_layers_2")
        .replace("lora_te_", "lora_te1_"): tensor
        for key, tensor in tensors.items()
    }
    assert len(set(renamed) & set(tensors)) == 3
    save_file(renamed, path)
    touched = {"unet": 2, "text_encoder": 1, "text_encoder_2": 1}
    pipeline = pipeline_of(folder)
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora(lora_scale=-1.5)
    pipeline.unload_lora_weights()
    ours = exported(folder, Adapter(str(path), -1.5))
    assert_same(ours, pipeline, folder, touched)
    assert_same(ours, referenced(folder, Adapter(str(path), -1.5)), folder, touched)


@pytest.mark.parametrize(
    ("component", "settings"),
    [
        ("unet", LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=UNET_TARGETS)),
        ("unet", LoraConfig(r=2, rank_pattern={"conv1": 3}, target_modules=UNET_TARGETS)),
        ("text_encoder", LoraConfig(r=4, lora_alpha=6, target_modules=TEXT_TARGETS)),
    ],
    ids=["rslora", "pattern", "text"],
)
def test_peft(micro_pipeline, tmp_path, component, settings):
    torch.manual_seed(0)
    targets = sorted(settings.target_modules)
    pipeline = pipeline_of(micro_pipeline)
    touched = {component: counts(getattr(pipeline, component), targets)}
    trained = get_peft_model(getattr(pipeline, component), settings)
    randomize(trained)
    trained.save_pretrained(tmp_path / "a")
    pipeline = pipeline_of(micro_pipeline)
    merged = PeftModel.from_pretrained(getattr(pipeline, component), tmp_path / "a")
    setattr(pipeline, component, merged.merge_and_unload())
    tensors = exported(micro_pipeline, Adapter(str(tmp_path / "a")))
    assert_same(tensors, pipeline, micro_pipeline, touched)
    scaled = Adapter(str(tmp_path / "a"), 0.25)
    reference = referenced(micro_pipeline, scaled)
    assert_same(exported(micro_pipeline, scaled), reference, micro_pipeline, touched)


def test_several_of_every_kind(lora, micro_pipeline, saved, tmp_path):
    path = tmp_path / "kohya.safetensors"
    kohya_file(lora, micro_pipeline, path, alphas=(2.0,))
    adapter = lora.make_adapter(
        exported(micro_pipeline), [("unet", each) for each in lora.UNET], ranks=(8,)
    )
    peft = lora.save_peft(tmp_path / "peft", adapter, binary=True)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=UNET_TARGETS)
    adapters = [Adapter(str(peft), 0.5), Adapter(str(path), -1.0)]
    adapters += [Adapter(str(saved("diffusers", settings)), 0.2), Adapter(str(peft), 0.1)]
    reference = referenced(micro_pipeline, *adapters)
    named = {name.removesuffix(".weight") for name in reference.unet.state_dict()}
    updated = set(lora.UNET)
    updated |= {n for n in named if any(f".{n}".endswith(f".{each}") for each in UNET_TARGETS)}
    touched = {"unet": len(updated), "text_encoder": len(lora.TEXT)}
    assert_same(exported(micro_pipeline, *adapters), reference, micro_pipeline, touched)


def test_a_pipeline_with_some_components_only(lora, micro_pipeline, tmp_path):
    """The reference holds the text encoders and the U-Net one after the other."""
    path = tmp_path / "a.safetensors"
    touched = kohya_file(lora, micro_pipeline, path, alphas=(2.0,))
    checkpoint = load_checkpoint(str(micro_pipeline))
    source = find_adapter(Adapter(str(path), 0.7))
    tensors = exported(micro_pipeline, source.adapter)
    for component, count in touched.items():
        pipeline = pipeline_of(micro_pipeline)
        for other in ("unet", "text_encoder"):
            if other != component:
                setattr(pipeline, other, None)
        with torch.no_grad():
            torch_lora.fuse_adapters(pipeline, replace(checkpoint, adapters=(source,)))
        assert_same(tensors, pipeline, micro_pipeline, {component: count})


def test_what_diffusers_refuses(micro_pipeline, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"unet.conv_in.lora_A.weight": torch.ones(4, 9, 3, 3),
               "unet.conv_in.lora_B.weight": torch.ones(16, 4, 1, 1)}, path)  # fmt: skip
    with pytest.raises(
        CheckpointError, match=r"(?s)diffusers cannot fuse the adapter '.*size mismatch"
    ):
        referenced(micro_pipeline, Adapter(str(path)))


def test_without_peft(lora, micro_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusers.utils, "USE_PEFT_BACKEND", False)
    referenced(micro_pipeline)
    path = tmp_path / "a.safetensors"
    kohya_file(lora, micro_pipeline, path)
    with pytest.raises(DependencyError, match=r"the package 'peft' .* or newer; run"):
        referenced(micro_pipeline, Adapter(str(path)))
