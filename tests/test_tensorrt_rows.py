"""The models of every row of the zoo, narrow, as engines of TensorRT for RTX for an RTX 4090."""

import itertools
import json

import pytest
from kdexport.core.options import OnnxOptions
from kdexport.core.profiles import Extent, Profile, shape_ranges
from kdexport.export.load import load_checkpoint
from kdexport.export.narrow import narrow_twin
from kdexport.export.onnx_bundle import MODEL_FILE, Component
from kdexport.export.parts import pipeline_parts
from kdexport.export.skeleton import build_skeleton, fake_mode, parameter_shapes
from kdexport.export.tensorrt.build import check_request
from kdexport.export.tensorrt.libraries import tensorrt
from kdexport.export.tensorrt.network import parse_network
from kdexport.export.tensorrt.process import run_build
from kdexport.export.tensorrt.request import EngineRequest
from kdexport.export.to_onnx import write_onnx
from kdexport.export.weights import open_weights
from kdexport.export.zoo import zoo

pytest.importorskip("tensorrt_rtx")

# What `--precision fp16` asks of the ONNX files, at one small size: quick to trace and to build.
EDGE = 64
OPTIONS = OnnxOptions(
    *("mixed", "portable"), height=EDGE, width=EDGE, batch=1, schedulers=(), with_encoder=True
)
PROFILE = Profile(Extent(1, 1, 1), Extent(EDGE, EDGE, EDGE), Extent(EDGE, EDGE, EDGE))
# How each engine file of TensorRT for RTX begins.
MAGIC = b"vtrt"


def rows_by(described):
    """Lists of rows for which `described` gives the same: what is built for one is that of all."""
    groups = {}
    for name, entry in zoo().items():
        key = json.dumps(described(narrow_twin(entry)), sort_keys=True)
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def unet(entry):
    """The U-Net, but for the type of its attention; that of its ControlNet changes its inputs."""
    return {**entry.unet.config, "upcast_attention": None}, entry.controlnet is not None


def text(entry):
    return [[each.class_name, each.config] for each in entry.text_encoders]


def vae(entry):
    return entry.vae.class_name, entry.vae.config, len(entry.text_encoders)


def upcast(name):
    return bool(zoo()[name].unet.config.get("upcast_attention"))


# Attention in float32 inside a float16 graph is where types can go wrong: such rows come first.
UNETS = [sorted(names, key=upcast, reverse=True) for names in rows_by(unet)]
TEXTS, VAES = rows_by(text), rows_by(vae)
CONTROLLED = [name for name, entry in zoo().items() if entry.controlnet]
# A row without it whose twin with it is built.
PLAIN = next(row for names in UNETS for row in names[::-1] if upcast(row) != upcast(names[0]))


@pytest.mark.parametrize("names", UNETS, ids=" ".join)
def test_unets(narrow, tmp_path, names):
    made = build(narrow(names[0]), tmp_path, "unet")
    # SDXL's second embedding: pooled text beside sinusoids, which a module in float16 makes in
    # float32, so that exports of the module as it is join Half and Float.
    pooled = zoo()[names[0]].unet.config.get("addition_embed_type") == "text_time"
    assert ("text_embeds" in made.inputs) is pooled
    assert made.dtypes >= {"float16", "float32"}


def test_attention_in_float16(narrow, tmp_path):
    parse(narrow(PLAIN), tmp_path, "unet")


@pytest.mark.parametrize("names", TEXTS, ids=lambda names: names[0])
def test_text_encoders(narrow, tmp_path, names):
    for number in range(len(zoo()[names[0]].text_encoders)):
        build(
            narrow(names[0]), tmp_path, f"text_encoder_{number + 1}" if number else "text_encoder"
        )


@pytest.mark.parametrize("role", ["vae_decoder", "vae_encoder"])
@pytest.mark.parametrize("names", VAES, ids=lambda names: names[0])
def test_vaes(narrow, tmp_path, names, role):
    build(narrow(names[0]), tmp_path, role)


@pytest.mark.parametrize("name", CONTROLLED)
def test_controlnets(narrow, tmp_path, name):
    assert "controlnet_cond" in build(narrow(name), tmp_path, "controlnet").inputs


def test_every_row_is_there():
    for groups in (UNETS, TEXTS, VAES):
        assert set(itertools.chain(*groups)) == set(zoo())
    assert CONTROLLED
    assert {upcast(names[0]) for names in UNETS} == {True, False}


def build(model, folder, role):
    """Parses one model and builds its engine; gives what its ONNX file says."""
    request = parse(model, folder, role)
    told = []
    run_build(request, folder / "engine", told.append)
    with (folder / "engine").open("rb") as file:
        assert file.read(len(MAGIC)) == MAGIC
    # The weights are inside.
    weights = request.graph.bytes - request.onnx.stat().st_size
    assert (folder / "engine").stat().st_size > weights
    assert told == sorted(told)
    return request.graph


def parse(model, folder, role):
    """Exports one model and holds the file against TensorRT's parser; gives the request for it."""
    checkpoint = load_checkpoint(str(model))
    (part,) = (each for each in pipeline_parts(checkpoint, OPTIONS, 8) if each.role == role)
    source = checkpoint.component(part.component)
    skeleton = build_skeleton(source, part.dtype)
    written = write_onnx(
        part.wrap(skeleton),
        fake_mode(),
        open_weights(source, parameter_shapes(skeleton)),
        folder / role,
        opset=OPTIONS.resolved_opset,
        static=part.static,
    )
    ports = (written.inputs, written.outputs, written.parameters)
    ranges = shape_ranges(Component(role, role, part.precision, *ports), PROFILE, 1, 8)
    request = EngineRequest(role, folder / role / MODEL_FILE, "rtx", (8, 9), ranges)
    check_request(request)
    network = parse_network(tensorrt("rtx"), request.onnx, "TensorRT for RTX")
    assert network.strongly_typed
    assert network.definition.num_outputs == len(written.outputs)
    return request
