"""Exported components against the modules that they were made of."""

import copy
from collections import Counter

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from kdexport.core.compare import GATES, compare
from kdexport.core.errors import CheckpointError, ExportError
from kdexport.core.options import OnnxOptions
from kdexport.export.attention import NativeAttention, PortableAttention, onnx_attention
from kdexport.export.skeleton import build_skeleton, fake_mode, parameter_shapes
from kdexport.export.to_onnx import write_onnx
from kdexport.export.weights import Weights, open_weights
from kdexport.export.wrap import WrappedDecoder, WrappedEncoder, WrappedUnet
from kdexport.export.wrap_text import WrappedTextEncoder
from kdexport.runtimes.widened import session_source

TOKENS = 12
SHAPES = [(1, 16, 12), (2, 8, 22), (3, 2, 2)]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export(source, folder, wrap, options=None, static=None):
    options = options or OnnxOptions()
    skeleton = build_skeleton(source, DTYPES.get(options.precision, torch.float16))
    edge = torch.float16 if options.precision == "fp16" else torch.float32
    weights = open_weights(source, parameter_shapes(skeleton))
    told = []
    written = write_onnx(
        wrap(skeleton, edge, onnx_attention(options)),
        fake_mode(),
        weights,
        folder / "onnx",
        opset=options.resolved_opset,
        static=static or {},
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    path = folder / "onnx" / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    nodes = onnx.load(path, load_external_data=False).graph.node
    if not any(node.op_type == "Scan" for node in nodes):
        names = [f"{node.domain}.{node.op_type}".removeprefix(".") for node in nodes]
        counted = Counter(name for name in names if name != "Constant")
        assert written.operators == counted
        assert list(written.operators) == sorted(counted)
    sessions = ort.SessionOptions()
    session = ort.InferenceSession(session_source(path, sessions), sessions)
    return written, session, onnx.load(path, load_external_data=False)


def unet_inputs(batch, height, width, sdxl=False):
    random = np.random.default_rng(batch * height + width)
    draw = lambda *shape: random.standard_normal(shape, dtype=np.float32)  # noqa: E731
    feed = {
        "sample": draw(batch, 4, height, width),
        "timestep": np.array(451.25, np.float32),
        "encoder_hidden_states": draw(batch, TOKENS, 24),
    }
    if sdxl:
        feed["text_embeds"] = draw(batch, 20)
        ids = np.array([[1024, 768, 0, 0, 1024, 768]], np.float32)
        feed["time_ids"] = np.repeat(ids, batch, axis=0)
    return feed


@torch.no_grad()
def run_unet(module, feed):
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in feed.items()}
    added = {name: tensors[name] for name in ("text_embeds", "time_ids") if name in tensors}
    return module(
        tensors["sample"],
        tensors["timestep"],
        tensors["encoder_hidden_states"],
        added_cond_kwargs=added or None,
        timestep_cond=tensors.get("timestep_cond"),
        return_dict=False,
    )[0].numpy()


def wrap_unet(module, edge, attention):
    return WrappedUnet(module, edge, attention, TOKENS)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (OnnxOptions(), {}),
        (OnnxOptions(attention="portable"), {}),
        (OnnxOptions(attention="portable", opset=23), {}),
        # 192 queries in slices of 7; the smallest map has fewer queries than a slice.
        (OnnxOptions(attention="sliced", slice_size=7), {}),
        (OnnxOptions(attention="portable"), {"upcast_attention": True}),
        # Heads of 16 and 32, as wide as the operator takes them.
        (OnnxOptions(attention="native"), {"attention_head_dim": 1}),
        (OnnxOptions(), {"only_cross_attention": [True, False]}),
        (OnnxOptions(), {"mid_block_type": "UNetMidBlock2DCrossAttn"}),
        (OnnxOptions(), "sdxl"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unet_fp32(micro, tmp_path, options, changes):
    sdxl = changes == "sdxl"
    config = {**micro.UNET, **(micro.SDXL if sdxl else changes)}
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", config)
    written, session, graph = export(source, tmp_path, wrap_unet, options)

    assert [spec.name for spec in written.inputs] == [each.name for each in session.get_inputs()]
    assert written.inputs[0].shape == ("batch", 4, "height", "width")
    assert session.get_inputs()[0].shape == ["batch", 4, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 4, "height", "width"]
    assert written.parameters == sum(each.numel() for each in module.parameters())
    for shape in SHAPES:
        feed = unet_inputs(*shape, sdxl)
        difference = compare(session.run(None, feed)[0], run_unet(module, feed))
        assert difference.relative_l2 < 5e-6, shape

    operators = Counter(node.op_type for node in graph.graph.node)
    attentions = len(module.attn_processors)
    expected = {
        "fused": "MultiHeadAttention",
        "portable": "Softmax",
        "sliced": "Scan",
        "native": "Attention",
    }
    assert operators[expected[options.attention]] == attentions
    domains = {opset.domain: opset.version for opset in graph.opset_import}
    assert domains[""] == options.resolved_opset
    if options.attention != "fused":
        assert set(domains) == {""}


@pytest.mark.parametrize("precision", ["fp32", "mixed", "fp16"])
def test_guidance_embedding(micro, tmp_path, precision):
    config = {**micro.UNET, **micro.SDXL, "time_cond_proj_dim": 10}
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", config)
    written, session, _ = export(source, tmp_path, wrap_unet, OnnxOptions(precision=precision))
    assert [spec.name for spec in written.inputs][-2:] == ["time_ids", "timestep_cond"]
    assert written.inputs[-1].shape == ("batch", 10)
    edge = np.float16 if precision == "fp16" else np.float32
    for shape in SHAPES:
        feed = unet_inputs(*shape, sdxl=True)
        condition = np.random.default_rng(0).standard_normal((shape[0], 10), np.float32)
        feed["timestep_cond"] = condition
        cast = {k: v if k == "timestep" else v.astype(edge) for k, v in feed.items()}
        difference = compare(session.run(None, cast)[0], run_unet(module, feed))
        assert difference.relative_l2 < 5e-6 if precision == "fp32" else difference.psnr_db > 50
        without = {**cast, "timestep_cond": np.zeros_like(condition, edge)}
        assert compare(session.run(None, without)[0], run_unet(module, feed)).psnr_db < 50


@pytest.mark.parametrize(
    ("precision", "attention"),
    [
        ("fp16", "fused"),
        ("mixed", "fused"),
        ("fp16", "sliced"),
        ("mixed", "sliced"),
        ("mixed", "portable"),
    ],
)
def test_unet_in_half_precision(micro, tmp_path, precision, attention):
    config = {**micro.UNET, **micro.SDXL}
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", config)
    options = OnnxOptions(precision=precision, attention=attention, slice_size=50)
    written, session, graph = export(source, tmp_path, wrap_unet, options)
    edge = np.float16 if precision == "fp16" else np.float32
    for shape in SHAPES:
        feed = unet_inputs(*shape, sdxl=True)
        cast = {k: v if k == "timestep" else v.astype(edge) for k, v in feed.items()}
        result = session.run(None, cast)[0]
        assert result.dtype == edge
        assert compare(result, run_unet(module, feed)).psnr_db > 50, shape
    assert {spec.dtype for spec in written.inputs[2:]} == {np.dtype(edge).name}
    assert written.inputs[1].dtype == "float32"
    stored = Counter(each.data_type for each in graph.graph.initializer if len(each.dims) > 1)
    assert stored[onnx.TensorProto.FLOAT16] > 50
    # The sinusoids stay in float32, as diffusers computes them.
    types = {each.name: each.type.tensor_type.elem_type for each in graph.graph.value_info}
    sines = [node.output[0] for node in graph.graph.node if node.op_type == "Sin"]
    assert sines
    assert {types.get(name, onnx.TensorProto.FLOAT) for name in sines} == {onnx.TensorProto.FLOAT}
    if attention == "portable":
        # The pooled text and the sinusoid of the time ids are of one type where they meet.
        require_tensorrt_takes(tmp_path / "onnx" / "model.onnx")


@pytest.mark.parametrize(
    ("attention", "changes", "attentions"),
    [
        ("portable", {}, 0),
        ("native", {"attention_head_dim": 1}, 6),
        ("sliced", {}, 0),
    ],
)
def test_unet_in_bfloat16(micro, tmp_path, attention, changes, attentions):
    config = {**micro.UNET, **micro.SDXL, **changes}
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", config)
    options = OnnxOptions(precision="bf16", attention=attention, slice_size=50)
    written, session, graph = export(source, tmp_path, wrap_unet, options)
    path = tmp_path / "onnx" / "model.onnx"
    assert {spec.dtype for spec in (*written.inputs, *written.outputs)} == {"float32"}
    rounded = copy.deepcopy(module).to(torch.bfloat16)
    for shape in SHAPES:
        feed = unet_inputs(*shape, sdxl=True)
        expected = run_unet(module, feed)
        ours = compare(session.run(None, feed)[0], expected)
        theirs = compare(run_rounded(rounded, feed), expected)
        assert GATES["bf16"].component_passes(ours)
        # As far from float32 as diffusers in bfloat16 is: the rounding of activations is in it.
        assert ours.psnr_db == pytest.approx(theirs.psnr_db, abs=2.5), shape
        assert ours.psnr_db < 60
    require_rounded_weights(path, module)
    assert Counter(node.op_type for node in graph.graph.node)["Attention"] == attentions
    # The sinusoids are computed in float32, and one of the two is of the time ids.
    types = {each.name: each.type.tensor_type.elem_type for each in graph.graph.value_info}
    sines = [node.output[0] for node in graph.graph.node if node.op_type == "Sin"]
    assert [types.get(name) for name in sines] == [onnx.TensorProto.FLOAT] * 2
    if attention != "sliced":
        require_tensorrt_takes(path)


@torch.no_grad()
def run_rounded(module, feed):
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in feed.items()}
    result = module(
        tensors["sample"].bfloat16(),
        tensors["timestep"],
        tensors["encoder_hidden_states"].bfloat16(),
        added_cond_kwargs={
            "text_embeds": tensors["text_embeds"].bfloat16(),
            "time_ids": tensors["time_ids"],
        },
        return_dict=False,
    )[0]
    return result.float().numpy()


def require_rounded_weights(path, module):
    """That the weights are rounded as torch rounds: to the nearest, ties to even."""
    graph = onnx.load(path).graph
    stored = {each.name.removeprefix("inner."): each for each in graph.initializer}
    compared = 0
    for name, parameter in module.state_dict().items():
        # Matrices are transposed in the file.
        if name in stored and len(parameter.shape) != 2:
            array = onnx.numpy_helper.to_array(stored[name])
            assert array.dtype == ml_dtypes.bfloat16
            expected = parameter.to(torch.bfloat16).view(torch.int16).numpy()
            np.testing.assert_array_equal(array.view(np.int16), expected)
            compared += 1
    assert compared > 100


def test_native_attention_in_half_precision(micro, tmp_path):
    config = {**micro.UNET, "attention_head_dim": 1}
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", config)
    options = OnnxOptions(precision="mixed", attention="native")
    _, session, graph = export(source, tmp_path, wrap_unet, options)
    for shape in SHAPES:
        feed = unet_inputs(*shape)
        assert compare(session.run(None, feed)[0], run_unet(module, feed)).psnr_db > 50, shape
    assert sum(node.op_type == "Attention" for node in graph.graph.node) == 6
    require_tensorrt_takes(tmp_path / "onnx" / "model.onnx")


@pytest.mark.parametrize(
    ("heads", "width", "dtype", "single", "native"),
    [
        (2, 9, torch.bfloat16, False, True),
        (2, 256, torch.float16, False, True),
        (2, 8, torch.float16, False, False),
        (1, 512, torch.float16, False, False),
        (2, 64, torch.float32, False, False),
        (2, 64, torch.float32, True, True),
        (1, 512, torch.float32, True, False),
    ],
)
def test_where_native_attention_is_native(heads, width, dtype, single, native):
    tensors = [torch.randn(2, 5, heads * width, dtype=dtype) for _ in range(3)]
    result = NativeAttention(single).attend(*tensors, heads, width**-0.5)
    plain = PortableAttention().attend(*tensors, heads, width**-0.5)
    assert (result.shape, result.dtype) == (plain.shape, plain.dtype)
    # Outside a trace a symbolic operator gives zeros.
    assert torch.equal(result, torch.zeros_like(plain) if native else plain)


def require_tensorrt_takes(path):
    """That the network is parsed as it is; engines are built in the tests of TensorRT itself."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(path))
    assert parsed, [str(parser.get_error(index)) for index in range(parser.num_errors)]
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    assert names[:3] == ["sample", "timestep", "encoder_hidden_states"]


def test_static_shapes(micro, tmp_path):
    source, module = micro.save(tmp_path, "unet", "UNet2DConditionModel", micro.UNET)
    static = {"batch": 2, "height": 8, "width": 12}
    written, session, graph = export(source, tmp_path, wrap_unet, static=static)
    assert written.inputs[0].shape == (2, 4, 8, 12)
    assert session.get_outputs()[0].shape == [2, 4, 8, 12]
    feed = unet_inputs(2, 8, 12)
    assert compare(session.run(None, feed)[0], run_unet(module, feed)).relative_l2 < 5e-6
    # With every size known nothing is left to compute at run time.
    assert not any(node.op_type == "Shape" for node in graph.graph.node)


def test_large_static_sizes(micro, tmp_path):
    """diffusers' upsampling branches beyond 2^31 elements, which would limit the rows."""
    source, _ = micro.save(tmp_path, "vae", "AutoencoderKL", micro.VAE)
    static = {"height": 2048, "width": 2048}
    written, session, _ = export(source, tmp_path, WrappedDecoder, static=static)
    assert written.inputs[0].shape == ("batch", 4, 2048, 2048)
    assert session.get_outputs()[0].shape == ["batch", 3, 8192, 8192]


@pytest.mark.parametrize("attention", ["fused", "portable", "sliced", "native"])
def test_autoencoder(micro, tmp_path, attention):
    source, module = micro.save(tmp_path, "vae", "AutoencoderKL", micro.VAE)
    options = OnnxOptions(attention=attention, slice_size=100)
    written, session, _ = export(source, tmp_path, WrappedDecoder, options)
    assert written.outputs[0].shape == ("batch", 3, "4 * height", "4 * width")
    check_decoder(session, module)


def test_tiny_decoder_does_not_quantize(micro, tmp_path):
    source, module = micro.save(tmp_path, "vae", "AutoencoderTiny", micro.TINY)
    written, session, _ = export(source, tmp_path, WrappedDecoder)
    assert written.parameters == sum(each.numel() for each in module.decoder.parameters())
    check_decoder(session, module)


def check_decoder(session, module):
    for batch, height, width in SHAPES:
        latents = 3 * torch.randn(batch, 4, height, width)
        with torch.no_grad():
            expected = module.decode(latents, return_dict=False)[0].numpy()
        result = session.run(None, {"latent_sample": latents.numpy()})[0]
        assert compare(result, expected).relative_l2 < 5e-6


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderTiny"])
def test_encoder(micro, tmp_path, name):
    config = micro.VAE if name == "AutoencoderKL" else micro.TINY
    source, module = micro.save(tmp_path, "vae", name, config)
    written, session, _ = export(source, tmp_path, WrappedEncoder)
    pixels = torch.rand(2, 3, 24, 16) * 2 - 1
    with torch.no_grad():
        encoded = module.encode(pixels)
    if name == "AutoencoderKL":
        output, expected = "latent_parameters", encoded.latent_dist.parameters
    else:
        output, expected = "latent_sample", encoded.latents
    assert written.outputs[0].name == output
    # optimum evaluates these names, which takes blanks between them.
    factor = 4 if name == "AutoencoderKL" else 2
    assert written.outputs[0].shape[2:] == (f"height // {factor}", f"width // {factor}")
    result = session.run([output], {"sample": pixels.numpy()})[0]
    assert compare(result, expected.numpy()).relative_l2 < 5e-6


@pytest.mark.parametrize("eos", [2, 95], ids=["legacy argmax", "first end token"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_text_encoder(micro, tmp_path, name, activation, eos):
    config = {**micro.TEXT, "hidden_act": activation, "eos_token_id": eos}
    source, module = micro.save(tmp_path, "text_encoder", name, config)
    every = name.endswith("Projection")

    def wrap(module, edge, _):
        return WrappedTextEncoder(module, edge, every)

    written, session, _ = export(source, tmp_path, wrap)
    ids = torch.randint(0, 94, (3, TOKENS))
    ids[:, 0], ids[0, 5:], ids[1, 9:], ids[2, -1] = 94, 95, 95, 95
    with torch.no_grad():
        expected = module(ids, output_hidden_states=True)
    results = session.run(None, {"input_ids": ids.numpy()})
    for spec, result in zip(written.outputs, results, strict=True):
        state, _, index = spec.name.partition(".")
        reference = expected[state][int(index)] if index else expected[state]
        assert compare(result, reference.numpy()).relative_l2 < 5e-6, spec.name
    names = [spec.name for spec in written.outputs]
    if every:
        assert names == [
            "text_embeds",
            "last_hidden_state",
            *(f"hidden_states.{i}" for i in range(3)),
        ]
    else:
        assert names == ["last_hidden_state", "pooler_output"]


@pytest.mark.parametrize("skip", [1, 2])
def test_text_encoder_with_clip_skip(micro, tmp_path, skip):
    source, module = micro.save(tmp_path, "text_encoder", "CLIPTextModel", micro.TEXT)

    def wrap(module, edge, _):
        return WrappedTextEncoder(module, edge, False, skip)

    written, session, _ = export(source, tmp_path, wrap)
    names = [spec.name for spec in written.outputs]
    assert names == ["last_hidden_state", "pooler_output", "skipped_hidden_state"]
    ids = torch.randint(0, 94, (2, TOKENS))
    with torch.no_grad():
        expected = module(ids, output_hidden_states=True)
        norm = getattr(module, "text_model", module).final_layer_norm
        skipped = norm(expected.hidden_states[-(skip + 1)])
    last, _, state = session.run(None, {"input_ids": ids.numpy()})
    assert compare(state, skipped.numpy()).relative_l2 < 5e-6
    assert compare(last, expected.last_hidden_state.numpy()).relative_l2 < 5e-6
    assert compare(state, last).relative_l2 > 1e-2


@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_text_encoder_in_half_precision(micro, tmp_path, name):
    # Some configs name a dtype, which must not win over the wanted one.
    config = {**micro.TEXT, "dtype": "float32"}
    source, module = micro.save(tmp_path, "text_encoder", name, config)

    def wrap(module, edge, _):
        return WrappedTextEncoder(module, edge, True)

    written, session, _ = export(source, tmp_path, wrap, OnnxOptions(precision="mixed"))
    ids = torch.randint(0, 94, (2, TOKENS))
    with torch.no_grad():
        expected = module(ids).last_hidden_state.numpy()
    result = session.run(["last_hidden_state"], {"input_ids": ids.numpy()})[0]
    assert {spec.dtype for spec in written.outputs} == {"float32"}
    assert 50 < compare(result, expected).psnr_db < 100


def test_weights_are_streamed_into_the_external_file(micro, tmp_path):
    source, _ = micro.save(tmp_path, "unet", "UNet2DConditionModel", micro.UNET)
    _, _, graph = export(source, tmp_path, wrap_unet)
    inline = [each for each in graph.graph.initializer if not each.external_data]
    assert all(len(each.raw_data) <= 1024 for each in inline)
    weights = sum(each.stat().st_size for each in (source.folder).glob("*.safetensors"))
    assert (tmp_path / "onnx" / "model.onnx.data").stat().st_size > 0.8 * weights


def test_a_tensor_without_weights(micro, tmp_path):
    source, _ = micro.save(tmp_path, "vae", "AutoencoderTiny", micro.TINY)
    module = build_skeleton(source, torch.float32)
    wrapped = WrappedDecoder(module, torch.float32, onnx_attention(OnnxOptions()))
    with pytest.raises(ExportError, match=r"does not hold: inner\.decoder"):
        write_onnx(wrapped, fake_mode(), Weights({}), tmp_path / "x", opset=18, static={})
    assert not (tmp_path / "x").exists()


def test_unusual_attention_is_refused(micro, tmp_path):
    _, module = micro.save(tmp_path, "vae", "AutoencoderKL", micro.VAE)
    attention = module.decoder.mid_block.attentions[0]
    attention.norm_q = torch.nn.Identity()
    with pytest.raises(CheckpointError, match="uses norm_q, which kdexport cannot export"):
        onnx_attention(OnnxOptions())(attention, torch.zeros(1, 16, 4, 4))
