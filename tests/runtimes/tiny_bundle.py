"""A bundle of hand-made ONNX graphs: a pipeline small enough to know every number of.

`Tiny` holds the weights; `tiny_diffusers.py` builds the same maths from torch modules, so that
diffusers' own pipelines are the oracle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from kdexport.core.checkpoint import SKIPPED_STATE
from kdexport.core.manifest import (
    Component,
    Defaults,
    Latents,
    Manifest,
    SamplerRecord,
    Shapes,
    SourceRecord,
    TensorSpec,
    TextEncoding,
    record_files,
    save_manifest,
)
from kdexport.export.image_sampler import compile_image_sampler
from kdexport.export.sampler import compile_sampler, make_scheduler
from kdexport.export.tokenizer_files import write_tokenizer
from onnx import TensorProto, helper, numpy_helper
from transformers import CLIPTokenizer

VOCAB, TOKENS, FACTOR = 1024, 77, 8
HIDDEN = {"text_encoder": 6, "text_encoder_2": 10}
POOLED = 5
GUIDANCE = 9
SCALING = 1.7
BASE_CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
SCHEDULERS = ("pndm", "ddim", "euler", "euler-ancestral", "lcm", "dpm++2m", "heun")
STEPS = (1, 4, 6)
_ONNX = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}


@dataclass(frozen=True)
class Tiny:
    """The weights, float32, of all components of one family."""

    family: str
    arrays: dict[str, np.ndarray]

    @property
    def roles(self) -> tuple[str, ...]:
        return ("text_encoder",) if self.family == "sd" else ("text_encoder", "text_encoder_2")

    @property
    def hidden(self) -> int:
        return sum(HIDDEN[role] for role in self.roles)


def make_tiny(family: str) -> Tiny:
    random = np.random.default_rng(7)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    arrays = {f"table:{role}": draw(VOCAB, width) for role, width in HIDDEN.items()}
    arrays["project"] = draw(HIDDEN["text_encoder_2"], POOLED)
    arrays["mix"] = draw(4, 4, 1, 1, scale=0.2)
    arrays["from_hidden"] = draw(6 if family == "sd" else 16, 4, scale=0.4)
    arrays["from_pooled"] = draw(POOLED, 4, scale=0.4)
    arrays["from_sizes"] = draw(6, 4, scale=0.002)
    arrays["decode"] = draw(3, 4, 1, 1, scale=0.3)
    arrays["encode"] = draw(8, 3, FACTOR, FACTOR, scale=0.12)
    arrays["from_guidance"] = draw(GUIDANCE, 4, scale=0.4)
    return Tiny(family, arrays)


def write_bundle(
    tiny: Tiny,
    folder: Path,
    *,
    dtype: str = "float32",
    batch: int | None = None,
    encoder: str | None = None,
    embedding: bool = False,
    skip: bool = False,
    **changes: object,
) -> Manifest:
    """Writes the bundle; `batch` fixes that dimension of every component, `encoder` adds one with
    this output, `embedding` feeds guidance to the U-Net, `skip` is a clip-skip of 1, and `changes`
    go into the manifest."""
    for index in range(len(tiny.roles)):
        _write_tokenizer(folder / ("tokenizer" if index == 0 else "tokenizer_2"), index)
    components = [
        *(_text_encoder(tiny, role, folder, dtype, batch, skip) for role in tiny.roles),
        _unet(tiny, folder, dtype, batch, embedding),
        _decoder(tiny, folder, dtype, batch),
        *([] if encoder is None else [_encoder(tiny, folder, dtype, batch, encoder)]),
    ]
    manifest = Manifest(
        schema_version=1,
        backend="onnx",
        family=tiny.family,
        tools={"kdexport": "0.1.0"},
        source=SourceRecord("tiny", None, {}, "StableDiffusionPipeline", random_weights=True),
        components=tuple(components),
        text=tuple(_encoding(tiny, role, skip) for role in tiny.roles),
        zero_negative=tiny.family == "sdxl",
        latents=Latents(4, FACTOR, SCALING, 0.0),
        shapes=Shapes(multiple=FACTOR, height=None, width=None, batch=batch),
        defaults=Defaults(4, 7.5, 48, 64, None, "pndm"),
        samplers=tuple(_sampler(name, folder, encoder is not None) for name in SCHEDULERS),
        guidance_embedding=GUIDANCE if embedding else None,
    )
    manifest = replace(manifest, files=record_files(folder), **changes)
    save_manifest(manifest, folder)
    return manifest


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    constants: dict[str, np.ndarray],
) -> Path:
    """Saves a checked ONNX model."""
    ports = [
        [helper.make_tensor_value_info(spec.name, _ONNX[spec.dtype], spec.shape) for spec in specs]
        for specs in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", *ports, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _component(role, folder, nodes, inputs, outputs, constants, dtype) -> Component:
    save_graph(folder / role / "model.onnx", nodes, inputs, outputs, constants)
    precision = "fp16" if dtype == "float16" else "fp32"
    size = sum(array.size for array in constants.values())
    return Component(role, f"{role}/model.onnx", precision, tuple(inputs), tuple(outputs), size)


def _text_encoder(
    tiny: Tiny, role: str, folder: Path, dtype: str, batch: int | None, skip: bool
) -> Component:
    """Hidden states: the embedding, its double, its sine; pooled: from the mean."""
    rows, width = batch or "batch", HIDDEN[role]
    inputs = [TensorSpec("input_ids", "int64", (rows, TOKENS))]
    states = [TensorSpec(f"hidden_states.{i}", dtype, (rows, TOKENS, width)) for i in range(3)]
    last = TensorSpec("last_hidden_state", dtype, (rows, TOKENS, width))
    projected = role == "text_encoder_2"
    pooled = (
        TensorSpec("text_embeds", dtype, (rows, POOLED))
        if projected
        else TensorSpec("pooler_output", dtype, (rows, width))
    )
    constants = {
        "table": tiny.arrays[f"table:{role}"].astype(dtype),
        "two": np.array(2, dtype),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden_states.0"]),
        helper.make_node("Mul", ["hidden_states.0", "two"], ["hidden_states.1"]),
        helper.make_node("Sin", ["hidden_states.1"], ["hidden_states.2"]),
        helper.make_node("Tanh", ["hidden_states.2"], ["last_hidden_state"]),
    ]
    mean = "mean" if projected else pooled.name
    nodes.append(helper.make_node("ReduceMean", ["hidden_states.0", "axes"], [mean], keepdims=0))
    if projected:
        constants["project"] = tiny.arrays["project"].astype(dtype)
        nodes.append(helper.make_node("MatMul", ["mean", "project"], [pooled.name]))
    outputs = [pooled, last, *states] if projected else [last, pooled, *states]
    if skip and tiny.family == "sd":
        outputs.append(TensorSpec(SKIPPED_STATE, dtype, (rows, TOKENS, width)))
        nodes.append(helper.make_node("Tanh", ["hidden_states.1"], [SKIPPED_STATE]))
    return _component(role, folder, nodes, inputs, outputs, constants, dtype)


def _unet(tiny: Tiny, folder: Path, dtype: str, batch: int | None, embedding: bool) -> Component:
    """Linear in the latents, plus a bias per row and channel from time, text and guidance."""
    rows = batch or "batch"
    inputs = [
        TensorSpec("sample", dtype, (rows, 4, "height", "width")),
        TensorSpec("timestep", "float32", ()),
        TensorSpec("encoder_hidden_states", dtype, (rows, TOKENS, tiny.hidden)),
    ]
    constants = {
        "mix": tiny.arrays["mix"],
        "from_hidden": tiny.arrays["from_hidden"],
        "thousandth": np.array(0.001, np.float32),
        "tokens": np.array([1], np.int64),
        "space": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["sample"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["encoder_hidden_states"], ["h"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "mix"], ["mixed"]),
        helper.make_node("ReduceMean", ["h", "tokens"], ["text"], keepdims=0),
        helper.make_node("MatMul", ["text", "from_hidden"], ["bias0"]),
        helper.make_node("Mul", ["timestep", "thousandth"], ["time"]),
        helper.make_node("Add", ["bias0", "time"], ["bias1"]),
    ]
    bias = "bias1"
    added = []
    if tiny.family == "sdxl":
        added += [("text_embeds", POOLED, "from_pooled"), ("time_ids", 6, "from_sizes")]
    if embedding:
        added.append(("timestep_cond", GUIDANCE, "from_guidance"))
    for name, width, matrix in added:
        inputs.append(TensorSpec(name, dtype, (rows, width)))
        constants[matrix] = tiny.arrays[matrix]
        nodes += [
            helper.make_node("Cast", [name], [f"{name}32"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", [f"{name}32", matrix], [f"{name}p"]),
            helper.make_node("Add", [bias, f"{name}p"], [f"{name}b"]),
        ]
        bias = f"{name}b"
    nodes += [
        helper.make_node("Unsqueeze", [bias, "space"], ["spread"]),
        helper.make_node("Add", ["mixed", "spread"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["out_sample"], to=_ONNX[dtype]),
    ]
    outputs = [TensorSpec("out_sample", dtype, (rows, 4, "height", "width"))]
    return _component("unet", folder, nodes, inputs, outputs, constants, dtype)


def _decoder(tiny: Tiny, folder: Path, dtype: str, batch: int | None) -> Component:
    """Channels mixed, squashed by a sine, and every cell made a square of pixels."""
    rows = batch or "batch"
    inputs = [TensorSpec("latent_sample", dtype, (rows, 4, "height", "width"))]
    outputs = [TensorSpec("sample", dtype, (rows, 3, "8*height", "8*width"))]
    constants = {
        "decode": tiny.arrays["decode"].astype(dtype),
        "none": np.array([], np.float32),
        "scales": np.array([1, 1, FACTOR, FACTOR], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["latent_sample", "decode"], ["mixed"]),
        helper.make_node("Sin", ["mixed"], ["squashed"]),
        helper.make_node(
            "Resize",
            ["squashed", "none", "scales"],
            ["sample"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    return _component("vae_decoder", folder, nodes, inputs, outputs, constants, dtype)


def _encoder(tiny: Tiny, folder: Path, dtype: str, batch: int | None, output: str) -> Component:
    """Every square of pixels becomes a cell: latents, or a mean and a logarithm of variance."""
    rows = batch or "batch"
    channels = 8 if output == "latent_parameters" else 4
    inputs = [TensorSpec("sample", dtype, (rows, 3, "height", "width"))]
    outputs = [TensorSpec(output, dtype, (rows, channels, "height/8", "width/8"))]
    constants = {"encode": tiny.arrays["encode"][:channels].astype(dtype)}
    nodes = [helper.make_node("Conv", ["sample", "encode"], [output], strides=[FACTOR, FACTOR])]
    return _component("vae_encoder", folder, nodes, inputs, outputs, constants, dtype)


def pad_token(index: int) -> str:
    """As SDXL: the first tokenizer pads with its end marker, the second with `!`."""
    return "<|endoftext|>" if index == 0 else "!"


def _write_tokenizer(folder: Path, index: int) -> None:
    folder.mkdir(parents=True)
    write_tokenizer(folder, VOCAB, pad_token(index))
    CLIPTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))


def _encoding(tiny: Tiny, role: str, skip: bool) -> TextEncoding:
    second = role == "text_encoder_2"
    usual = "last_hidden_state" if tiny.family == "sd" else "hidden_states.1"
    skipped = SKIPPED_STATE if tiny.family == "sd" else "hidden_states.0"
    return TextEncoding(
        role=role,
        tokenizer=f"{'tokenizer_2' if second else 'tokenizer'}/tokenizer.json",
        max_length=TOKENS,
        bos_token_id=VOCAB - 2,
        eos_token_id=VOCAB - 1,
        pad_token_id=0 if second else VOCAB - 1,
        hidden_output=skipped if skip else usual,
        pooled_output="text_embeds" if second else None,
        negative_output=usual if skip else None,
    )


def _sampler(name: str, folder: Path, from_picture: bool) -> SamplerRecord:
    scheduler = make_scheduler(name, BASE_CONFIG)
    sampler = compile_sampler(name, scheduler, STEPS)
    file, image = f"samplers/{name}.json", None
    (folder / "samplers").mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(sampler.to_json()), encoding="utf-8")
    if from_picture:
        image = f"samplers/{name}.image.json"
        starts = compile_image_sampler(scheduler, sampler)
        (folder / image).write_text(json.dumps(starts.to_json()), encoding="utf-8")
    return SamplerRecord(name, sampler.scheduler, file, tuple(sampler.tables), image)
