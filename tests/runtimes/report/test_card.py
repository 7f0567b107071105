"""The model card as text: what programs read at its top, what people read below."""

from __future__ import annotations

import ast
import math
import re
import shlex
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard, metadata_load
from kdexport.cli.run import run as run_command
from kdexport.core.adapters import Adapter
from kdexport.core.manifest import (
    CARD_PLACEHOLDER,
    ControlRecord,
    CoremlRecord,
    EngineRecord,
    SamplerRecord,
)
from kdexport.core.parity import NOT_EXECUTED
from kdexport.runtimes.report.card import render_card, write_card
from kdexport.runtimes.report.front_matter import LICENCES
from kdexport.runtimes.report.markdown import code, plain
from markdown_it import MarkdownIt

HOSTILE = (
    'a|b `x` </td><script>alert(1)</script> [l](http://e.example) *"q"*\n# h\n---\nlicense: mit'
)


def rows(text):
    """The cells of every row of every table."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text.split("\n---\n", 1)[1])
    found, row = [], None
    for token in tokens:
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            found.append(tuple(row))
        elif token.type == "inline" and row is not None and token.level > 3:
            row.append("".join(each.content for each in token.children))
    return found


def inlines(text):
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text.split("\n---\n", 1)[1])
    return [each for token in tokens for each in (token, *(token.children or ()))]


def declared(text):
    return ModelCard(text).data.to_dict()


def verified(manifest, found, **options):
    record, _ = found(**options)
    return replace(manifest, parity=record.to_json())


def test_what_the_hub_reads(manifest, tmp_path):
    licensed = replace(manifest.source, licence="openrail++")
    file = write_card(tmp_path, replace(manifest, source=licensed))
    assert metadata_load(file) == {
        "library_name": "kdexport",
        "pipeline_tag": "text-to-image",
        "license": "openrail++",
        "base_model": "maker/model",
        "base_model_relation": "quantized",
        "tags": ["onnx", "onnxruntime", "text-to-image", "stable-diffusion"],
    }
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"licence": "mit"}, {"license": "mit"}),
        (
            {"licence": "sai-nc", "licence_link": "https://a.example/l?a=1#b"},
            {
                "license": "other",
                "license_name": "sai-nc",
                "license_link": "https://a.example/l?a=1#b",
            },
        ),
        ({"licence": "no: 'yes'\n- x"}, {"license": "other", "license_name": "no: 'yes'\n- x"}),
        ({"licence": "on"}, {"license": "other", "license_name": "on"}),
        ({}, {}),
    ],
)
def test_licences(manifest, change, expected):
    data = declared(render_card(replace(manifest, source=replace(manifest.source, **change))))
    assert {key: value for key, value in data.items() if key.startswith("license")} == expected


def test_names_of_licences_are_single_words():
    assert {"apache-2.0", "mit", "creativeml-openrail-m", "other"} <= LICENCES
    assert all(re.fullmatch(r"[a-z0-9.+-]+", each) for each in LICENCES)


@pytest.mark.parametrize(
    ("change", "relation"),
    [
        ({}, "quantized"),
        ({"adapters": (Adapter("a/lora"),)}, None),
        ({"decoder": "a/taesd"}, None),
        ({"revision": None}, "no base"),
        ({"model": "zoo:x", "revision": None}, "no base"),
        ({"random_weights": True}, "no base"),
    ],
)
def test_the_base_model(manifest, change, relation):
    data = declared(render_card(replace(manifest, source=replace(manifest.source, **change))))
    assert data.get("base_model") == (None if relation == "no base" else "maker/model")
    assert data.get("base_model_relation") == (relation if relation == "quantized" else None)


def test_full_precision_is_not_quantized(manifest):
    (unet,) = manifest.components
    unet = replace(unet, precision="fp32", compression=None)
    data = declared(render_card(replace(manifest, components=(unet,))))
    assert data["base_model"] == "maker/model"
    assert "base_model_relation" not in data


def test_what_others_wrote_is_text(manifest):
    source = replace(
        manifest.source,
        model=HOSTILE,
        revision=None,
        licence=HOSTILE,
        decoder="x`y``z|",
        adapters=(Adapter(HOSTILE, 0.5),),
    )
    text = render_card(replace(manifest, source=source))
    assert declared(text)["license_name"] == HOSTILE
    assert "base_model" not in declared(text)
    assert not [each for each in inlines(text) if each.type.startswith(("html", "link"))]
    cells = dict(each for each in rows(text) if len(each) == 2)
    # Paths are cut; everything else is there, in one line.
    assert cells["licence of the weights"] == " ".join(HOSTILE.split())
    assert cells["decoder"] == "x`y``z|"
    assert text.count("\n# ") == 1


@pytest.mark.parametrize("text", ["a|b", "`", "a``b`", "*a* _b_", "<b>", "www.a.example", "\\|"])
def test_text_survives_markdown(text):
    for escaped, kind in ((plain(text), "text"), (code(text), "code_inline")):
        table = f"| {escaped} |\n|---|\n"
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(table)
        (inline,) = (each for each in tokens if each.type == "inline")
        shown = [each for each in inline.children if each.content]
        assert "".join(each.content for each in shown) == text
        assert {each.type for each in shown} <= {kind, "text_special"}


def test_paths_are_nobodys_business(manifest):
    source = replace(manifest.source, model="/home/me/secret/model", revision=None, base="..\\b\\c")
    text = render_card(replace(manifest, source=source))
    assert "secret" not in text
    assert "# model as ONNX" in text
    assert ("base", "c") in rows(text)


def test_what_it_is(manifest):
    text = render_card(manifest)
    cells = dict(each for each in rows(text) if len(each) == 2)
    assert cells["source"] == "maker/model"
    assert "https://huggingface.co/maker/model/tree/abc" in text
    assert cells["steps, guidance"] == "50, 7.5"
    assert cells["size of an image"] == "512×512 by default; multiples of 64 pixels"
    assert cells["files"] == "1.20 GB"
    assert ("unet", "mixed", "30 palette6, 2 palette8", "4,100,000", "1.20 GB") in rows(text)
    assert "stored in fewer bits" in text
    fixed = replace(manifest.shapes, height=512, width=768)
    assert "512×768 only" in render_card(replace(manifest, shapes=fixed))


def blocks(text):
    """The fenced blocks by language."""
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


def test_the_commands_can_be_typed(manifest):
    text = render_card(manifest)
    (_, shell), (_, ours), (_, theirs) = blocks(text)
    install, draw = shell.strip().splitlines()
    assert install == "pip install 'kdexport[cpu]'"
    words = shlex.split(draw)
    assert words[:3] == ["kdexport", "run", CARD_PLACEHOLDER]
    assert run_command.make_context("run", words[2:]).params["seed"] == 0
    for snippet in (ours, theirs):
        ast.parse(snippet)
        assert f'"{CARD_PLACEHOLDER}"' in snippet
    assert "ORTStableDiffusionPipeline.from_pretrained" in theirs
    assert "num_inference_steps=50, guidance_scale=7.5" in theirs


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("StableDiffusionXLPipeline", "ORTStableDiffusionXLPipeline"),
        # optimum has one for it, which no bundle was ever loaded with.
        ("LatentConsistencyModelPipeline", None),
        ("StableDiffusionControlNetPipeline", None),
    ],
)
def test_pipelines_of_optimum(manifest, name, pipeline):
    text = render_card(replace(manifest, source=replace(manifest.source, pipeline_class=name)))
    assert (f"import {pipeline}\n" in text) == (pipeline is not None)
    assert ("optimum" in text) == (pipeline is not None)


def test_a_controlnet(manifest):
    text = render_card(replace(manifest, control=ControlRecord(1.0, False, 3)))
    (_, shell), (_, ours) = blocks(text)
    words = shlex.split(shell.strip().splitlines()[1])
    assert str(run_command.make_context("run", words[2:]).params["control"]) == "picture.png"
    # What is handed in is a picture, not its name.
    assert "control=picture)" in ast.unparse(ast.parse(ours))


def test_image_to_image(manifest):
    record = SamplerRecord("default", "DDIMScheduler", "samplers/default.json", (1,), "i.json")
    assert "--init" not in render_card(manifest)
    assert "--init" in render_card(replace(manifest, samplers=(record,)))


def test_not_verified(manifest):
    text = render_card(manifest)
    assert "Not verified." in text
    assert "was not compared with diffusers" in text


def test_figures(manifest, found):
    text = render_card(verified(manifest, found, errors=(0.0, 1e-4), levels=(0, 1), quality=True))
    assert "**Passed**: 5 of 5 gates held." in text
    assert ("unet", "80.0 dB", "relative L2 ≤ 0.0001", "passed") in rows(text)
    (picture,) = (each for each in rows(text) if each[0] == "8-bit picture")
    assert picture[1].startswith("48.1 dB, SSIM ")
    assert picture[2:] == ("PSNR ≥ 45 dB", "2 compared")
    assert "16 captions" in text
    assert "90.0 of 100" in text
    assert "equal" in render_card(verified(manifest, found, errors=(0.0,), levels=(0,)))


def test_failures(manifest, found):
    changed = verified(manifest, found, errors=(0.0, math.nan), levels=(60,), broken="NaN at 3")
    text = render_card(changed)
    assert "**FAILED**: 1 of 4 gates held." in text
    assert ("unet", "NaN or Inf", "relative L2 ≤ 0.0001", "failed") in rows(text)
    assert ("runs that broke off", "1", "", "failed") in rows(text)


def test_sizes_that_were_compared(manifest, found):
    shapes = replace(manifest.shapes, tested={"unet": {"height": (64, 72), "width": (64,)}})
    text = render_card(replace(verified(manifest, found), shapes=shapes))
    assert "sides of 512, 576 pixels" in text


def test_core_ml(manifest, found):
    record = CoremlRecord("iOS17", "all", "split-einsum", None, 2)
    made = replace(verified(manifest, found), backend="coreml", coreml=record)
    made = replace(made, parity={**made.parity, "runtime": {"engine": "mil", "provider": "cpu"}})
    text = render_card(made)
    assert declared(text)["tags"][:2] == ["coreml", "core-ml"]
    assert ("Core ML", "iOS17, attention split-einsum, for all") in rows(text)
    for part in (
        *("compile_coreml.sh", "swift_demo", "ml-stable-diffusion", "not by Core ML"),
        *("elsewhere kdexport's evaluator", "pip install 'kdexport[coreml]'    # on a Mac"),
    ):
        assert part in text
    assert "optimum" not in text


def test_tensorrt(manifest, found):
    engine = EngineRecord("unet", "unet.sm89.rtx.engine", "rtx", "sm_89", "1.7.1", "0" * 64, {})
    made = replace(verified(manifest, found), backend="tensorrt", engines=(engine,))
    ran = {**made.parity["runtime"], "tensorrt": NOT_EXECUTED}
    text = render_card(replace(made, parity={**made.parity, "runtime": ran}))
    assert declared(text)["tags"][:2] == ["tensorrt", "onnx"]
    (row,) = (each for each in rows(text) if each[0] == "unet.sm89.rtx.engine")
    assert row[1].startswith("sm_89 (4090, ")
    assert row[2] == "TensorRT for RTX 1.7.1"
    assert "engines were not executed" in text
    assert "pip install 'kdexport[tensorrt]'\n" in text
    native = render_card(replace(made, engines=(replace(engine, kind="native"),)))
    assert "pip install 'kdexport[tensorrt-native]'\n" in native


def test_random_weights(manifest):
    text = render_card(replace(manifest, source=replace(manifest.source, random_weights=True)))
    assert "- The weights are random: the pictures mean nothing." in text


def test_it_is_replaced_whole(tmp_path, manifest, found):
    write_card(tmp_path, manifest)
    text = write_card(tmp_path, verified(manifest, found)).read_text(encoding="utf-8")
    assert "Not verified" not in text
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]
