"""Every command of the documentation is executed, or named here with the reason why not.

The lines of a page run in its order in one folder, unmodified and offline: the Hub's cache holds
the smallest pipeline under the ids that the pages use, and files that a command only reads are laid
out when it names them. Commands that are not executed are parsed, so that a renamed option fails.
"""

import json
import re
import subprocess
import sys

import click
import numpy as np
import pytest
from kdexport.cli.main import cli, main
from PIL import Image
from safetensors.torch import load_file, save_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FULL_SIZE = "the model at its full size: gigabytes and minutes; smaller ones run on other pages"

_COMPILES = "torch's compiler takes minutes; tests/cli/test_bench.py runs other contestants"
_DEMO = "half a minute; tests/test_demo_model.py exports, verifies and scores it"
_FORMS = "two minutes; tests/cli/test_quantize.py makes forms"
_HUB = "sends to the Hub; tests/cli/test_push.py sends to a server that stands in for it"
_MODELS = "the models at their full size"
_ENVIRONMENT = "makes an environment of its own from a package index"

# What is not executed, by the exact command, and why.
EXCUSED = {
    "kdexport bench bk-small --engine onnxruntime --engine openvino "
    "--vs diffusers,diffusers-compile": _COMPILES,
    "kdexport bench bk-onnx --engine onnxruntime --engine openvino "
    "--vs diffusers,diffusers-compile --steps 10": _COMPILES,
    "kdexport onnx demo -o demo": _DEMO,
    "kdexport verify demo --captions 8": _DEMO,
    "kdexport quantize nota-ai/bk-sdm-small -o forms --backend coreml --format palette6 "
    "--format int8": _FORMS,
    "kdexport models make bk-sdm-small bk": _FULL_SIZE,
    "kdexport onnx bk -o bk-onnx --no-verify": _FULL_SIZE,
    "kdexport models make bk-sdm-small model": _FULL_SIZE,
    "kdexport coreml model -o out --attention split-einsum --verify-steps 3": _FULL_SIZE,
    "kdexport tensorrt zoo:bk-sdm-small --gpu 4090 -o out": _FULL_SIZE,
    "kdexport tensorrt out --gpu 4090 -o again": _FULL_SIZE,
    "kdexport tensorrt zoo:koala-700m --gpu 4090 -o koala --no-verify": _FULL_SIZE,
    "kdexport tensorrt nota-ai/bk-sdm-small --engine native --gpu this -o bk-native": "needs a GPU",
    "./scripts/demo": _ENVIRONMENT,
    "./scripts/test": "runs the tests, this one among them",
    "./scripts/conformance nota-ai/bk-sdm-small bk-small --steps 4": _ENVIRONMENT,
    "scripts/bench_peers bk --bundle bk-onnx --engine onnxruntime --engine openvino "
    "--engine openvino:cpu-bf16 --steps 10 --threads 2 --cores 0,1 --json bench.json "
    "--markdown bench.md --plot bench.png": _ENVIRONMENT,
    "kdexport push bk-small me/bk-sdm-small-onnx": _HUB,
    "python scripts/bench_export.py MODEL... --precision fp32 --precision fp16 "
    "--against optimum-onnx,dynamo": _MODELS,
    "python scripts/bench_export.py MODEL... --precision fp32 --precision fp16 "
    "--component pipeline": _MODELS,
    "scripts/compile_coreml.sh bk-phone": "needs a Mac with Xcode",
    "scripts/gpu_check --out DIR": "needs a GPU",
}
# The same for blocks of Python, by their first line.
EXCUSED_PYTHON = {
    "from optimum.onnxruntime import ORTStableDiffusionPipeline": (
        "optimum needs another transformers; scripts/conformance runs it in its own environment"
    ),
}
# What the Hub holds: an id, and what is there (see the fixture `cache`).
REPOSITORIES = {
    "nota-ai/bk-sdm-small": "pipeline",
    "IDKiro/sdxs-512-dreamshaper": "pipeline",
    "IDKiro/sdxs-512-dreamshaper-sketch": "controlnet",
    "me/bk-sdm-small-onnx": "bundle",
}
PIXELS = 4  # of the smallest pipeline, per latent cell


def picture(path, _):
    Image.linear_gradient("L").convert("RGB").resize((48, 40)).save(path)


def bundle(path, request):
    path.symlink_to(request.getfixturevalue("whole_bundle"))


def adapter(path, request):
    lora = request.getfixturevalue("lora")
    folder = request.getfixturevalue("micro_pipeline")
    weights = {"unet": load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")}
    made = lora.make_adapter(weights, [("unet", name) for name in lora.UNET_ATTENTION])
    save_file({name: each.contiguous() for name, each in lora.kohya(made).items()}, path)


def recipe(path, _):
    path.write_text(json.dumps({"default": 6, "*.resnets.*": 8}))


# Files that commands read and no earlier command of the page has made.
FILES = {
    "photo.jpg": picture,
    "sketch.png": picture,
    "adapter.safetensors": adapter,
    "recipe.json": recipe,
    "bk-small": bundle,
    "bk-onnx": bundle,
}


@pytest.fixture(scope="module")
def whole_bundle(micro_pipeline, tmp_path_factory):
    """The smallest pipeline's ONNX bundle, not verified, for as many steps as by default."""
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    with pytest.raises(SystemExit) as stop:
        main(["onnx", str(micro_pipeline), "-o", str(folder), "--no-verify", "--schedulers", ""])
    assert stop.value.code == 0
    return folder


@pytest.fixture(scope="module")
def cache(hub, micro, micro_pipeline, whole_bundle, tmp_path_factory):
    """The Hub's cache; the process looks nowhere else while tests of this module run."""
    folder = tmp_path_factory.mktemp("hub")
    micro.save_controlnet(folder, micro_pipeline, PIXELS)
    places = {"pipeline": micro_pipeline, "controlnet": folder / "controlnet"}
    places["bundle"] = whole_bundle
    for repository, what in REPOSITORIES.items():
        hub.fill(folder / "cache", repository, places[what])
    with pytest.MonkeyPatch.context() as patch:
        hub.use(patch, folder / "cache")
        yield folder / "cache"


@pytest.fixture
def lay_out(request, tmp_path, monkeypatch):
    """Goes to an empty folder; the function that it gives puts the files there that are named."""
    monkeypatch.chdir(tmp_path)

    def lay(names, making=()):
        for name, make in FILES.items():
            path = tmp_path / name
            if name in names and name not in making and not path.exists():
                make(path, request)

    return lay


def parse(words):
    """Parses a command line of kdexport without running it; raises what click raises."""
    command, context = cli, click.Context(cli, info_name="kdexport")
    for index, word in enumerate(words[1:], 1):
        command = command.get_command(context, word)
        assert command is not None, word
        rest = words[index + 1 :]
        if not isinstance(command, click.Group) or not rest or rest[0].startswith("-"):
            command.make_context(word, rest, parent=context)
            return


def executed(pages, line):
    """Whether a line runs where it stands: those of the front page run on the pages of details."""
    if line.kind == "python":
        return line.text.splitlines()[0] not in EXCUSED_PYTHON
    if line.text in {pages.same(each) for each in EXCUSED} or line.kind != "kdexport":
        return False
    others = (each.text for page in pages.PAGES[1:] for each in pages.lines(page))
    return line.page != pages.FRONT or line.text not in others


def outputs(words):
    return [words[index + 1] for index, word in enumerate(words) if word in ("-o", "--output")]


def test_page(pages, page, cache, call, lay_out, monkeypatch):
    """What a page says, in its order; every line by itself would need what came before."""
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    for line in pages.lines(page):
        if not executed(pages, line):
            continue
        if line.kind == "python":
            lay_out(re.findall(r'"([^"\n]+)"', line.text))
            exec(compile(line.text, page, "exec"), {"__name__": "__main__"})
        else:
            lay_out([word.split(":")[0] for word in line.words], outputs(line.words))
            status, out, err = call(*line.words[1:])
            assert status == 0, f"{line.text}\n{out}\n{err}"


def test_every_command_parses(pages, page):
    for line in pages.lines(page):
        if line.kind == "kdexport":
            parse(line.words)
        elif line.kind == "python":
            compile(line.text, page, "exec")


def test_a_renamed_option_would_be_noticed():
    with pytest.raises(click.NoSuchOption):
        parse(["kdexport", "onnx", "model", "-o", "out", "--percision", "fp16"])
    with pytest.raises(click.UsageError):
        parse(["kdexport", "models", "make", "bk-sdm-small"])


def test_every_excuse_is_for_a_command_of_a_page(pages):
    said = [line for page in pages.PAGES for line in pages.lines(page)]
    commands = {line.text for line in said if line.kind != "python"}
    assert {pages.same(each) for each in EXCUSED} <= commands
    python = {line.text.splitlines()[0] for line in said if line.kind == "python"}
    assert set(EXCUSED_PYTHON) <= python
    assert all([*EXCUSED.values(), *EXCUSED_PYTHON.values()])


def test_a_line_is_one_command(pages, page):
    for line in pages.lines(page):
        if line.kind != "python":
            assert not {"&&", "||", "|", ";", ">"} & set(line.words), line.text


def test_scripts_are_there_and_have_the_options(pages, page):
    excused = {pages.same(each) for each in EXCUSED}
    for line in pages.lines(page):
        if line.kind != "script":
            continue
        assert line.text in excused
        words = line.words[1:] if line.words[0] == "python" else line.words
        script = pages.ROOT / words[0]
        assert script.is_file()
        assert line.words[0] == "python" or script.stat().st_mode & 0o111
        options = {word for word in words if word.startswith("--")}
        if options:
            python = script if script.suffix == ".py" else script.with_suffix(".py")
            command = [sys.executable, python, "--help"]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert options <= set(re.findall(r"--[\w-]+", shown)), line.text


def test_extras_that_are_installed_exist(pages, page):
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in pages.lines(page):
        if line.kind == "pip":
            (wanted,) = re.findall(r"\.\[([\w,-]+)\]", line.text)
            assert set(wanted.split(",")) <= set(project["optional-dependencies"])


def test_the_smallest_picture_is_no_plain_one(tmp_path):
    """A picture that steers nothing would let a lost `--control` pass."""
    picture(tmp_path / "a.png", None)
    assert np.asarray(Image.open(tmp_path / "a.png")).std() > 10
