"""ControlNets and the U-Nets that they steer, exported, against the modules of diffusers."""

import json
import shutil

import diffusers
import numpy as np
import onnxruntime as ort
import pytest
import torch
from kdexport.core.checkpoint import ComponentSource, ControlSource
from kdexport.core.compare import GATES, compare
from kdexport.core.errors import CheckpointError, OptionError
from kdexport.core.manifest import ControlRecord
from kdexport.core.options import ModelOptions, OnnxOptions
from kdexport.export.attention import onnx_attention
from kdexport.export.controlnets import control_record, control_source
from kdexport.export.cost import component_costs
from kdexport.export.load import load_checkpoint
from kdexport.export.prepare import prepare_export
from kdexport.export.residuals import residual_ports, residuals
from kdexport.export.skeleton import build_skeleton, fake_mode, parameter_shapes
from kdexport.export.to_onnx import write_onnx
from kdexport.export.weights import open_weights
from kdexport.export.wrap_control import WrappedControlledUnet, WrappedControlNet
from kdexport.runtimes.widened import session_source

TOKENS = 12
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PIXELS = 4  # per latent cell
SHAPES = [(1, 16, 12), (2, 8, 22), (3, 2, 2)]

# The published architecture of SDXS-Sketch and its figures.
SKETCH = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


def export(source, folder, kind, options=None, static=None):
    options = options or OnnxOptions()
    skeleton = build_skeleton(source, DTYPES.get(options.precision, torch.float16))
    edge = torch.float16 if options.precision == "fp16" else torch.float32
    written = write_onnx(
        kind(skeleton, edge, onnx_attention(options), TOKENS),
        fake_mode(),
        open_weights(source, parameter_shapes(skeleton)),
        folder / "onnx",
        opset=options.resolved_opset,
        static=static or {},
    )
    sessions = ort.SessionOptions()
    source = session_source(folder / "onnx" / "model.onnx", sessions)
    return written, ort.InferenceSession(source, sessions)


def draw(random, *shape):
    return random.standard_normal(shape, dtype=np.float32)


def common_inputs(batch, height, width, sdxl):
    random = np.random.default_rng(batch * height + width)
    feed = {
        "sample": draw(random, batch, 4, height, width),
        "timestep": np.array(451.25, np.float32),
        "encoder_hidden_states": draw(random, batch, TOKENS, 24),
    }
    if sdxl:
        ids = np.array([[1024, 768, 0, 0, 1024, 768]], np.float32)
        feed |= {"text_embeds": draw(random, batch, 20), "time_ids": np.repeat(ids, batch, axis=0)}
    return feed, random


def controlnet_inputs(batch, height, width, sdxl=False, scale=0.7):
    feed, random = common_inputs(batch, height, width, sdxl)
    feed["controlnet_cond"] = random.random(
        (batch, 3, PIXELS * height, PIXELS * width), dtype=np.float32
    )
    return {**feed, "conditioning_scale": np.array(scale, np.float32)}


def controlled_unet_inputs(config, batch, height, width, sdxl=False):
    feed, random = common_inputs(batch, height, width, sdxl)
    for each in residuals(config):
        size = (height // each.factor, width // each.factor)
        feed[each.name] = draw(random, batch, each.channels, *size)
    return feed


def tensors(feed):
    made = {name: torch.from_numpy(np.asarray(array)) for name, array in feed.items()}
    added = {name: made.pop(name) for name in ("text_embeds", "time_ids") if name in made}
    return made, added or None


@torch.no_grad()
def run_controlnet(module, feed):
    made, added = tensors(feed)
    scale = float(made.pop("conditioning_scale"))
    down, mid = module(**made, conditioning_scale=scale, added_cond_kwargs=added, return_dict=False)
    return [each.numpy() for each in (*down, mid)]


@torch.no_grad()
def run_unet(module, feed):
    made, added = tensors(feed)
    mid = made.pop("mid_block_residual", None)
    down = [made.pop(name) for name in list(made) if name.startswith("down_block_residual")]
    return module(
        **made,
        added_cond_kwargs=added,
        down_block_additional_residuals=down or None,
        mid_block_additional_residual=mid,
        return_dict=False,
    )[0].numpy()


def save_controlnet(micro, folder, **changes):
    config = {**micro.controlnet_config(micro.UNET, PIXELS), **changes}
    return micro.save(folder, "controlnet", "ControlNetModel", config)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (OnnxOptions(), {}),
        (OnnxOptions(attention="portable"), {"mid_block_type": "UNetMidBlock2D"}),
        (OnnxOptions(), {"controlnet_conditioning_channel_order": "bgr"}),
        (OnnxOptions(), "sdxl"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_controlnet(micro, tmp_path, options, changes):
    sdxl = changes == "sdxl"
    source, module = save_controlnet(micro, tmp_path, **(micro.SDXL if sdxl else changes))
    written, session = export(source, tmp_path, WrappedControlNet, options)
    added = ["text_embeds", "time_ids"] if sdxl else []
    assert [spec.name for spec in written.inputs] == [
        *("sample", "timestep", "encoder_hidden_states", *added),
        *("controlnet_cond", "conditioning_scale"),
    ]
    assert [spec.name for spec in written.outputs] == [
        *(f"down_block_residual_{index}" for index in range(4)),
        "mid_block_residual",
    ]
    assert written.inputs[-2].shape == ("batch", 3, "4 * height", "4 * width")
    assert written.outputs[2].shape == ("batch", 16, "height // 2", "width // 2")
    assert [each.name for each in session.get_inputs()] == [spec.name for spec in written.inputs]
    assert written.parameters == sum(each.numel() for each in module.parameters())
    for shape, scale in zip(SHAPES, (0.7, 0.0, -1.5), strict=True):
        feed = controlnet_inputs(*shape, sdxl, scale)
        expected = run_controlnet(module, feed)
        results = session.run(None, feed)
        for spec, result, reference in zip(written.outputs, results, expected, strict=True):
            assert result.shape == reference.shape
            assert compare(result, reference).relative_l2 < 5e-6, (spec.name, shape)
            assert reference.any() == (scale != 0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"mid_block_type": "UNetMidBlock2DCrossAttn", "layers_per_block": (2, 1)}, "sdxl"],
    ids=["no mid block", "mid block, layers by block", "sdxl"],
)
def test_a_controlled_unet(micro, tmp_path, changes):
    sdxl = changes == "sdxl"
    config = {**micro.UNET, **(micro.SDXL if sdxl else changes)}
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", config)
    written, session = export(source, tmp_path, WrappedControlledUnet)
    names = [spec.name for spec in written.inputs]
    plain = 5 if sdxl else 3
    assert names[plain:] == [each.name for each in residuals(module.config)]
    assert [each.name for each in session.get_inputs()] == names
    for shape in SHAPES:
        feed = controlled_unet_inputs(module.config, *shape, sdxl)
        expected = run_unet(module, feed)
        assert compare(session.run(None, feed)[0], expected).relative_l2 < 5e-6, shape
        # Every residual counts, the one at the end also where there is no mid block.
        for name in names[plain:]:
            without = {**feed, name: np.zeros_like(feed[name])}
            assert compare(run_unet(module, without), expected).relative_l2 > 1e-3, name


@pytest.mark.parametrize("precision", ["fp16", "mixed", "bf16"])
def test_half_precision(micro, tmp_path, precision):
    options = OnnxOptions(precision=precision)
    edge = np.float16 if precision == "fp16" else np.float32
    # One of them for any size, the other for the one that it is run at.
    static = {"batch": 2, "height": 8, "width": 22} if precision != "fp16" else {}
    kept = ("timestep", "conditioning_scale")
    source, module = save_controlnet(micro, tmp_path / "a", **micro.SDXL)
    written, session = export(source, tmp_path / "a", WrappedControlNet, options, static)
    assert {spec.name for spec in written.inputs if spec.dtype == "float32"} >= set(kept)
    feed = controlnet_inputs(2, 8, 22, sdxl=True)
    cast = {k: v if k in kept else v.astype(edge) for k, v in feed.items()}
    for result, expected in zip(session.run(None, cast), run_controlnet(module, feed), strict=True):
        assert result.dtype == edge
        assert GATES[precision].component_passes(compare(result, expected))

    config = {**micro.UNET, **micro.SDXL}
    source, module = micro.save(tmp_path / "b", "unet", "UNet2DConditionModel", config)
    _, session = export(source, tmp_path / "b", WrappedControlledUnet, options, static)
    feed = controlled_unet_inputs(module.config, 2, 8, 22, sdxl=True)
    cast = {k: v if k in kept else v.astype(edge) for k, v in feed.items()}
    difference = compare(session.run(None, cast)[0], run_unet(module, feed))
    assert GATES[precision].component_passes(difference)


def test_static_shapes(micro, tmp_path):
    static = {"batch": 2, "height": 8, "width": 12}
    source, module = save_controlnet(micro, tmp_path)
    written, session = export(source, tmp_path, WrappedControlNet, static=static)
    assert written.inputs[-2].shape == (2, 3, 32, 48)
    assert written.outputs[-1].shape == (2, 32, 4, 6)
    assert session.get_inputs()[-2].shape == [2, 3, 32, 48]
    feed = controlnet_inputs(2, 8, 12)
    for result, expected in zip(session.run(None, feed), run_controlnet(module, feed), strict=True):
        assert compare(result, expected).relative_l2 < 5e-6


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_residuals_are_those_that_a_controlnet_gives(layers, levels):
    module = diffusers.ControlNetModel(
        block_out_channels=(8, 16, 24)[:levels],
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D")[:levels],
        layers_per_block=layers,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 4),
    )
    feed = {
        "sample": torch.zeros(1, 4, 8, 16),
        "timestep": torch.tensor(1),
        "encoder_hidden_states": torch.zeros(1, 3, 8),
        "controlnet_cond": torch.zeros(1, 3, 16, 32),
    }
    with torch.no_grad():
        down, mid = module(**feed, return_dict=False)
    expected = [(each.shape[1], 8 // each.shape[2], 16 // each.shape[3]) for each in (*down, mid)]
    found = residuals(module.config)
    assert [(each.channels, each.factor, each.factor) for each in found] == expected
    assert [port.name for port in residual_ports(module.config, torch.float32)] == [
        each.name for each in found
    ]


def test_the_published_figures_of_sdxs_sketch(tmp_path):
    source = ComponentSource("controlnet", "diffusers", "ControlNetModel", tmp_path, SKETCH)
    cost = component_costs(source, 64, 64)["controlnet"]
    assert (cost.parameters, cost.macs) == (186_551_440, 71_564_001_280)


# --- loading


@pytest.fixture
def controlnet(micro, micro_pipeline, tmp_path):
    micro.save_controlnet(tmp_path, micro_pipeline, PIXELS)
    return tmp_path / "controlnet"


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_controlnet_is_added(micro_pipeline, controlnet):
    extra = ModelOptions(controlnet=str(controlnet), control_scale=0.5, control_invert=True)
    checkpoint = load_checkpoint(str(micro_pipeline), extra=extra)
    assert checkpoint.pipeline_class == "StableDiffusionControlNetPipeline"
    assert checkpoint.component("controlnet").folder == controlnet
    assert checkpoint.control == ControlSource(str(controlnet), 0.5, True)
    assert control_record(checkpoint) == ControlRecord(0.5, True, 3)
    roles = [part.role for part in prepare_export(checkpoint, OnnxOptions(max_steps=1)).parts]
    assert roles == ["text_encoder", "controlnet", "unet", "vae_decoder"]


def test_a_pipeline_with_its_own_controlnet(micro_pipeline, controlnet, tmp_path):
    folder = shutil.copytree(micro_pipeline, tmp_path / "pipeline")
    shutil.copytree(controlnet, folder / "controlnet")
    entries = {
        "_class_name": "StableDiffusionControlNetPipeline",
        "controlnet": ["diffusers", "ControlNetModel"],
    }
    edit(folder / "model_index.json", lambda data: data.update(entries))
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.family == "sd"
    assert checkpoint.control == ControlSource(None, 1.0, False)
    # And one is taken out of a pipeline.
    other = load_checkpoint(str(micro_pipeline), extra=ModelOptions(controlnet=str(folder)))
    assert other.component("controlnet").folder == folder / "controlnet"
    multi = {"controlnet": ["diffusers", "MultiControlNetModel"]}
    edit(folder / "model_index.json", lambda data: data.update(multi))
    with pytest.raises(CheckpointError, match=r"is a MultiControlNetModel, .* ControlNetModel"):
        load_checkpoint(str(folder))


def test_a_plain_pipeline_has_no_control(micro_pipeline):
    checkpoint = load_checkpoint(str(micro_pipeline))
    assert checkpoint.control is None
    assert control_record(checkpoint) is None
    for extra in (ModelOptions(control_scale=1.0), ModelOptions(control_invert=False)):
        with pytest.raises(OptionError, match="has no ControlNet, so it can have neither"):
            load_checkpoint(str(micro_pipeline), extra=extra)


def test_the_known_card_of_a_controlnet(micro_pipeline):
    checkpoint = load_checkpoint(str(micro_pipeline))

    def source(**options):
        return control_source(checkpoint, ModelOptions(**options))

    sketch = "IDKiro/sdxs-512-dreamshaper-sketch"
    assert source(controlnet=sketch) == ControlSource(sketch, 0.8, True)
    told = source(controlnet=sketch, control_scale=0.0, control_invert=False)
    assert told == ControlSource(sketch, 0.0, False)
    assert source(controlnet="a/b") == ControlSource("a/b", 1.0, False)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("global_pool_conditions", True),
        ("conditioning_channels", 1),
        ("class_embed_type", "timestep"),
        ("addition_embed_type", "text"),
    ],
)
def test_controlnets_that_cannot_be_exported(micro_pipeline, controlnet, option, value):
    edit(controlnet / "config.json", lambda data: data.update({option: value}))
    with pytest.raises(CheckpointError, match=f"ControlNet .* sets {option} to {value!r}"):
        load_checkpoint(str(micro_pipeline), extra=ModelOptions(controlnet=str(controlnet)))


def test_what_is_no_controlnet(micro_pipeline, tmp_path):
    extra = ModelOptions(controlnet=str(micro_pipeline / "unet"))
    with pytest.raises(CheckpointError, match=r"is a UNet2DConditionModel, .* ControlNetModel"):
        load_checkpoint(str(micro_pipeline), extra=extra)
    extra = ModelOptions(controlnet=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"is not a ControlNet: it has no config\.json"):
        load_checkpoint(str(micro_pipeline), extra=extra)
    with pytest.raises(OptionError, match="control scale must be a finite number, not nan"):
        ModelOptions(control_scale=float("nan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers_per_block": 2}, r"what is added is '16x\(1/1\), 16x\(1/1\), 16x\(1/1\), "),
        ({"block_out_channels": (16, 48)}, r"48x\(1/2\)"),
        ({"cross_attention_dim": 16}, "cross_attention_dim is 16 in the ControlNet, but 24 in"),
        ({"conditioning_embedding_out_channels": (4, 8)}, "reads 2 pixels .* but the VAE draws 4"),
        ({"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
          "projection_class_embeddings_input_dim": 68}, "addition_embed_type is 'text_time' in"),
    ],
)  # fmt: skip
def test_a_controlnet_for_another_unet(micro, micro_pipeline, tmp_path, changes, message):
    unet = json.loads((micro_pipeline / "unet" / "config.json").read_text())
    if "cross_attention_dim" in changes:
        message = message.replace("24", str(unet["cross_attention_dim"]))
    config = {**micro.controlnet_config(unet, PIXELS), **changes}
    micro.save(tmp_path, "controlnet", "ControlNetModel", config)
    extra = ModelOptions(controlnet=str(tmp_path / "controlnet"))
    checkpoint = load_checkpoint(str(micro_pipeline), extra=extra)
    with pytest.raises(CheckpointError, match=f"does not fit the U-Net: .*{message}"):
        prepare_export(checkpoint, OnnxOptions(max_steps=1))
