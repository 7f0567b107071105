"""Every row of the troubleshooting page is provoked: its command, its exit status, its message."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass

import pytest
from kdexport.cli.main import main

PAGE = "docs/troubleshooting.md"


@dataclass(frozen=True)
class Case:
    """A row of the page.

    Attributes:
        command: What the user did, in a folder that holds what it names of `conditions.FILES`.
        message: What it says, all of it; `…` stands for anything.
        when: Keys of `conditions.CONDITIONS`: what else is the case.
        status: The exit status.
    """

    command: str
    message: str
    when: tuple[str, ...] = ()
    status: int = 1


CASES = (
    # Finding the model.
    Case(
        "kdexport onnx nota-ai/bk-sdm-tiny -o out",
        "'nota-ai/bk-sdm-tiny' cannot be downloaded (no network); connect to the network once, "
        "or name a folder that holds the pipeline.",
        when=("no_network",),
    ),
    Case(
        "kdexport onnx nota-ai/bk-sdm-tiny -o out --offline",
        "'nota-ai/bk-sdm-tiny' is not in the local cache; connect to the network once, or name a "
        "folder that holds the pipeline.",
        when=("no_network",),
    ),
    Case(
        "kdexport onnx nota-ai/bk-sdm-smal -o out",
        "There is no 'nota-ai/bk-sdm-smal' on the Hub, or it is private; check the id, pass "
        "--token, or name a folder that holds the pipeline.",
        when=("hub_without_it",),
    ),
    Case(
        "kdexport onnx someone/gated -o out",
        "'someone/gated' is gated: accept its licence on the Hub and pass --token.",
        when=("hub_that_gates_it",),
    ),
    Case(
        "kdexport onnx nota-ai/bk-sdm-small -o out --revision v9",
        "'nota-ai/bk-sdm-small' has no revision 'v9'; name a branch, tag or commit that it has, "
        "or leave --revision out.",
        when=("hub_without_the_revision",),
    ),
    Case(
        "kdexport onnx bk-sdm-small -o out",
        "'bk-sdm-small' is neither a folder nor a Hub id (owner/name) nor zoo:NAME; `kdexport "
        "models` lists the known ones.",
    ),
    Case(
        "kdexport onnx zoo:bk-sdm-smal -o out",
        "The zoo has no model 'bk-sdm-smal'; choose bk-sdm-base, … or sdxs-512-dreamshaper-sketch.",
    ),
    Case(
        "kdexport models make bk-sdm-smal folder",
        "The zoo has no model 'bk-sdm-smal'; choose bk-sdm-base, … or sdxs-512-dreamshaper-sketch.",
    ),
    Case(
        "kdexport onnx notes.txt -o out",
        "'notes.txt' is a file; kdexport reads a diffusers folder, a Hub id, zoo:NAME, demo or a "
        "single-file checkpoint (.safetensors, .ckpt).",
    ),
    Case(
        "kdexport onnx student.safetensors -o out",
        "'…student.safetensors' is a single file, which does not say what its model looks like; "
        "pass --config with a diffusers folder or a Hub id, or zoo:NAME beside --base.",
    ),
    Case(
        "kdexport onnx unet-only -o out",
        "'unet-only' has no model_index.json, so it is only a part of a pipeline; name the "
        "pipeline that completes it with --base.",
    ),
    Case(
        "kdexport onnx empty -o out",
        "'…empty' is not a diffusers pipeline: it has no model_index.json; name a folder that "
        "has it, or download it again.",
    ),
    Case(
        "kdexport onnx model -o out --base model",
        "'model' is a whole pipeline; leave out --base.",
    ),
    Case(
        "kdexport onnx model -o out --config model",
        "'model' is no single file and has configs of its own; leave out --config.",
    ),
    Case(
        "kdexport onnx model -o out --variant fp16",
        "No component of 'model' has weights of the variant 'fp16'; leave out --variant for the "
        "plain ones.",
    ),
    Case(
        "kdexport onnx model -o out",
        "'model' is a FluxPipeline, which kdexport cannot export; choose a model that is a "
        "StableDiffusionPipeline, ….",
        when=("another_pipeline",),
    ),
    Case(
        "kdexport onnx model -o out",
        "'…diffusion_pytorch_model.safetensors' is no complete safetensors file (…); download it "
        "again.",
        when=("cut_weights",),
    ),
    Case(
        "kdexport onnx model -o out",
        "The weights in '…vae' do not fit its config.json: tensors …; use the config.json that "
        "belongs to these weights.",
        when=("another_config",),
    ),
    Case(
        "kdexport onnx model -o out",
        "The pipeline lacks the folder '…tokenizer'; complete it.",
        when=("no_tokenizer",),
    ),
    Case(
        "kdexport onnx model -o out",
        "DDIMScheduler with clip_sample=True is not a linear sampler and cannot be compiled to a "
        "table; turn this off in scheduler_config.json if the model works on latents (Stable "
        "Diffusion never clips them), or choose another scheduler.",
        when=("clipping_scheduler",),
    ),
    # What is exported, and how.
    Case(
        "kdexport onnx model",
        "Missing option '-o' / '--output'.",
        status=2,
    ),
    Case(
        "kdexport onnx model -o out --percision fp16",
        "No such option…--percision…",
        status=2,
    ),
    Case(
        "kdexport export model",
        "No such command 'export'.",
        status=2,
    ),
    Case(
        "kdexport onnx model -o out",
        "The output 'out' already exists; choose another folder or pass --overwrite.",
        when=("out_exists",),
    ),
    Case(
        "kdexport onnx model -o notes.txt",
        "The output 'notes.txt' is a file; choose a folder.",
    ),
    Case(
        "kdexport onnx model -o notes.txt/out",
        "'…notes.txt' is a file, so nothing can be written below it.",
    ),
    Case(
        "kdexport onnx model -o out",
        "Writing to '…' needs … GB, but only … GB are free; free some space or choose another "
        "disk.",
        when=("full_disk",),
    ),
    Case(
        "kdexport onnx model -o out",
        "This command needs the package 'onnxscript'; run pip install 'kdexport[export,cpu]'.",
        when=("no_onnxscript",),
    ),
    Case(
        "kdexport onnx model -o out --static 500 500",
        "The height 500 does not fit 'model': it must be a multiple of 8 pixels, for example 496.",
    ),
    Case(
        "kdexport onnx model -o out --verify-size 500 500",
        "The height must be a multiple of 8 pixels, not 500; choose 496 or 504.",
    ),
    Case(
        "kdexport onnx model -o out --precision int4",
        "There is no precision 'int4'; choose fp32, fp16, mixed or bf16.",
    ),
    Case(
        "kdexport onnx model -o out --opset 9",
        "Opset 9 is not supported; choose 18 to 24.",
    ),
    Case(
        "kdexport onnx model -o out --attention native --opset 18",
        "The attention native needs opset 23 or newer, not 18; leave the opset out.",
    ),
    Case(
        "kdexport onnx model -o out --schedulers nope",
        "There is no scheduler 'nope'; choose ddim, ….",
    ),
    Case(
        "kdexport onnx model -o out --lora style.safetensors",
        "There is no adapter 'style.safetensors'; name a file, a folder, a Hub id (owner/name) "
        "or a file of one (owner/name/FILE), and a scale after a colon.",
    ),
    Case(
        "kdexport onnx model -o out --lora adapter.safetensors",
        "The adapter 'adapter.safetensors' does not fit 'model': tensors …; use an adapter that "
        "was trained for this architecture.",
    ),
    Case(
        "kdexport onnx model -o out --control-scale 0.5",
        "'model' has no ControlNet, so it can have neither a control scale nor an inversion of "
        "control pictures; leave these out, or add a ControlNet.",
    ),
    Case(
        "kdexport onnx model -o out --decoder zoo:taesd3",
        "The U-Net of 'model' draws latents of 4 channels, and its VAE decodes 16; choose "
        "another --decoder.",
    ),
    Case(
        "kdexport onnx model -o out --clip-skip 99",
        "The clip-skip must be at most … for the 'text_encoder' of 'model', not 99.",
    ),
    Case(
        "kdexport onnx model -o out --precision fp16 --schedulers ddim --max-steps 2",
        "… parity gates failed, no bundle was written: ….",
        when=("hot_model",),
        status=3,
    ),
    # Fewer bits.
    Case(
        "kdexport onnx model -o out --quantize int3",
        "There is no weight format 'int3'; choose …, or name a recipe file.",
    ),
    Case(
        "kdexport onnx model -o out --quantize palette6",
        "ONNX has no palettes and no sparse weights, so there is no palette6; choose …, or "
        "export to Core ML.",
    ),
    Case(
        "kdexport onnx model -o out --quantize int8-static",
        "The format int8-static needs to know the ranges of activations; record calibration data "
        "with `kdexport calibrate`, and name it with --calibration.",
    ),
    Case(
        "kdexport onnx model -o out --calibration calib.npz",
        "--calibration is for --quantize; name a format or recipe.",
        status=2,
    ),
    Case(
        "kdexport onnx model -o out --quantize int8-static --calibration missing.npz",
        "There is no calibration data 'missing.npz'; make it with `kdexport calibrate MODEL -o "
        "missing.npz`.",
    ),
    Case(
        "kdexport onnx model -o out --quantize int8-static --calibration notes.txt",
        "'notes.txt' is no .npz file; name one that `kdexport calibrate` made.",
    ),
    Case(
        "kdexport onnx other -o out --quantize int8-static --calibration calib.npz",
        "The calibration data 'calib.npz' is of 'model' and does not fit 'other', which has "
        "another unet; record 'other' with `kdexport calibrate`.",
    ),
    Case(
        "kdexport onnx model -o out --quantize int8-static --calibration calib.npz",
        "The calibration data 'calib.npz' is of another shape: 'sample' of the unet is … in "
        "sample 0, but the model takes (…); record it again with `kdexport calibrate`, with this "
        "model and size.",
        when=("calibration_of_another_shape",),
    ),
    Case(
        "kdexport onnx model -o out --quantize int8-static --calibration calib.npz",
        "The calibration data 'calib.npz' has NaN or infinite values in 'sample' of the unet, "
        "sample 0; record it again with `kdexport calibrate`.",
        when=("calibration_with_nan",),
    ),
    Case(
        "kdexport onnx model -o out --quantize int8-static --calibration calib.npz",
        "The calibration data 'calib.npz' is cut off or damaged (its end is missing); copy it "
        "again, or record it again with `kdexport calibrate`.",
        when=("calibration_cut",),
    ),
    Case(
        "kdexport onnx model -o out --quantize recipe.json",
        "The recipe 'recipe.json' is not valid JSON: …; mend it, or make one with `kdexport "
        "quantize`.",
        when=("recipe_no_json",),
    ),
    Case(
        "kdexport onnx model -o out --quantize missing.json",
        "The recipe 'missing.json' cannot be read: No such file or directory; name another, or "
        "make one with `kdexport quantize`.",
    ),
    Case(
        "kdexport onnx model -o out --quantize recipe.json",
        "The recipe names conv_inn.weight, which no weight of the unet is called; they are ….",
        when=("recipe_with_a_slip",),
    ),
    Case(
        "kdexport onnx model -o out --quantize recipe.json",
        "The recipe is for another model: the weights of the unet of 'model' have other names or "
        "shapes. It was made from 'koala'. Make one with `kdexport quantize`.",
        when=("recipe_of_another",),
    ),
    Case(
        "kdexport calibrate model -o data.npz --size 500 500",
        "The height 500 does not fit 'model': it must be a multiple of 8 pixels, for example 496.",
    ),
    Case(
        "kdexport calibrate model -o data.npz --prompts missing.txt",
        "The prompts 'missing.txt' cannot be read (…); name a text file in UTF-8.",
    ),
    Case(
        "kdexport quantize model -o forms",
        "Nothing to make; give a --format, a --target-size or a --target-psnr.",
    ),
    Case(
        "kdexport quantize model -o forms --target-size small",
        "'small' is no size; give MB or GB, such as 180MB.",
    ),
    Case(
        "kdexport quantize model -o forms --format int8-static",
        "int8-static quantizes activations, whose ranges come from calibration data: make it "
        "with `kdexport calibrate`, and give it with --calibration.",
    ),
    Case(
        "kdexport quantize model -o forms --table table.json --target-size 0.001MB",
        "The weights cannot be stored in 0.0 MB: with these formats (…) the smallest is … MB; "
        "ask for that much, or allow formats of fewer bits.",
    ),
    Case(
        "kdexport quantize model -o forms --table table.json --target-psnr 300",
        "A PSNR of 300 dB cannot be reached with these formats (…), only … dB; ask for that, or "
        "leave the weights as they are.",
    ),
    # Core ML.
    Case(
        "kdexport coreml model -o out --attention sdpa",
        "The attention 'sdpa' is an operation of iOS18, and the target is iOS17; choose --target "
        "iOS18 or another attention.",
    ),
    Case(
        "kdexport coreml model -o out --target iOS15",
        "There is no deployment target 'iOS15'; choose iOS16, iOS17 or iOS18.",
    ),
    Case(
        "kdexport coreml model -o out --quantize palette3",
        "The weight format 'palette3' came with iOS18, and the target is iOS17; choose --target "
        "iOS18 or a format of iOS17: ….",
    ),
    Case(
        "kdexport coreml model -o out --palettize 6 --quantize int8",
        "--palettize is --quantize by another name; give one of them.",
        status=2,
    ),
    Case(
        "kdexport coreml model -o out --chunk --size 32 32 --size 64 64",
        "A U-Net in chunks takes one size only; give one, or leave that out.",
    ),
    Case(
        "kdexport coreml model -o out --epsilon",
        "'model' predicts noise already; leave out --epsilon.",
    ),
    Case(
        "kdexport coreml model -o out --guidance-batch 4",
        "The U-Net's batch has 1 or 2 rows, not 4; choose --guidance-batch 1 or 2, or leave it "
        "out.",
    ),
    Case(
        "kdexport coreml model -o out",
        "Core ML export needs coremltools, which cannot be imported (…); install it with `pip "
        "install kdexport[coreml]`.",
        when=("no_coremltools",),
    ),
    # TensorRT.
    Case(
        "kdexport tensorrt model -o out --gpu H100",
        "TensorRT for RTX does not build for H100 (sm_90), only for sm_75, sm_80, sm_86, sm_89, "
        "sm_120 or sm_121; choose --engine native, on a machine that has that GPU.",
    ),
    Case(
        "kdexport tensorrt model -o out --gpu 4099",
        "There is no GPU '4099' in the table (close to it: 4090); name any other by its compute "
        "capability, such as sm_89.",
    ),
    Case(
        "kdexport tensorrt model -o out --gpu this",
        "This machine has no NVIDIA driver (libcuda.so.1 is missing), so it has no GPU to build "
        "for; name one, such as --gpu 4090 with --engine rtx.",
        when=("no_driver",),
    ),
    Case(
        "kdexport tensorrt model -o out --gpu T4 --precision bf16",
        "--precision bf16 computes in bfloat16, which GPUs have from sm_80 on; sm_75 (T4, 2080 "
        "Ti, 2080 Super and 10 more) has float32, float16 or int8; choose a newer GPU, or export "
        "with --precision fp16.",
    ),
    Case(
        "kdexport tensorrt model -o out --profile batch=4,2,8",
        "'4,2,8' is no range of sizes: they must be at least 1 and in the order minimum, "
        "optimum, maximum.",
    ),
    Case(
        "kdexport tensorrt bundle -o out",
        "The ONNX file of 'unet' has the operator com.microsoft.MultiHeadAttention, which is not "
        "ONNX's and which TensorRT for RTX cannot be relied on to have; export the model with "
        "--attention portable.",
    ),
    Case(
        'kdexport run engines "a cat" --runtime tensorrt-rtx',
        "This machine has no NVIDIA driver, so it runs no TensorRT engine; choose the runtime "
        "'onnxruntime'.",
        when=("no_driver",),
    ),
    Case(
        'kdexport run engines "a cat" --runtime tensorrt-rtx',
        "The engines of 'text_encoder' are for sm_86, but this machine's … is sm_89; build one "
        "with `kdexport tensorrt --gpu sm_89` (--engine native where TensorRT for RTX does not "
        "know the GPU), or choose the runtime 'onnxruntime'.",
        when=("rtx_4090",),
    ),
    # Bundles.
    Case(
        'kdexport run model "a cat"',
        "'model' is no kdexport bundle: it has no manifest.json; make one with `kdexport onnx "
        "MODEL -o DIR`.",
    ),
    Case(
        'kdexport run bundle "a cat"',
        "'unet/model.onnx' in the bundle 'bundle' was changed or damaged after the export; copy "
        "the bundle again or export again.",
        when=("changed_file",),
    ),
    Case(
        'kdexport run bundle "a cat"',
        "The bundle 'bundle' lacks 'unet/model.onnx'; copy it again or export again.",
        when=("missing_file",),
    ),
    Case(
        'kdexport run bundle "a cat"',
        "'bundle/manifest.json' has schema version 99, this kdexport reads up to …; upgrade "
        "kdexport or export again.",
        when=("newer_schema",),
    ),
    Case(
        'kdexport run bundle "a cat"',
        "'bundle/manifest.json' is not valid JSON (…); export again.",
        when=("damaged_manifest",),
    ),
    Case(
        "kdexport verify bundle",
        "'…' now has other weights than the bundle was made of; export again, or name the "
        "reference with --against.",
        when=("model_trained_on",),
    ),
    Case(
        "kdexport verify bundle --against other --steps 1",
        "… parity gates failed, the bundle does not draw what the reference draws: unet "
        "out_sample at ….",
        status=3,
    ),
    Case(
        "kdexport verify bundle --captions 8",
        "The pictures of '…' cannot be scored, only those of the demo model; leave --captions out.",
    ),
    # Drawing.
    Case(
        "kdexport run bundle",
        "Missing argument 'PROMPT'.",
        status=2,
    ),
    Case(
        'kdexport run bundle "a cat" -o cat.jpg',
        "The image 'cat.jpg' must have a name that ends in .png.",
    ),
    Case(
        'kdexport run bundle "a cat" -o missing/cat.png',
        "The image cannot be written to 'missing/cat.png': there is no folder '…missing'; make "
        "it first.",
    ),
    Case(
        'kdexport run bundle "a cat" --scheduler nope',
        "The bundle holds no scheduler 'nope', only …; export again with --schedulers to add it.",
    ),
    Case(
        'kdexport run bundle "a cat" --steps 51',
        "The bundle holds no 51-step table for the scheduler 'default'; it has …: choose one of "
        "these, or export again with a larger --max-steps.",
    ),
    Case(
        'kdexport run bundle "a cat" --size 500 500',
        "The height must be a multiple of 8 pixels, not 500; choose 496 or 504.",
    ),
    Case(
        'kdexport run bundle "a cat" --latents latents.npy --steps 1',
        "The latents must have the shape (1, 4, 8, 8) (images, channels, latent height, latent "
        "width), not (1, 4, 5, 5).",
        when=("latents_of_another_size",),
    ),
    Case(
        'kdexport run bundle "a cat" --latents latents.npy --steps 1',
        "The latents must be finite floating-point numbers; make them anew, or give a seed "
        "instead.",
        when=("latents_with_nan",),
    ),
    Case(
        'kdexport run bundle "a cat" --latents notes.txt',
        "'notes.txt' is no .npy file of numbers (…); name one that numpy.save wrote.",
    ),
    Case(
        'kdexport run bundle "a cat" --init photo.png --steps 1',
        "The bundle has no VAE encoder, so it cannot start from a picture; export the model "
        "again with --with-encoder.",
    ),
    Case(
        'kdexport run bundle "a cat" --init notes.txt',
        "'notes.txt' is no image that can be read (…); choose a PNG or JPEG file.",
    ),
    Case(
        'kdexport run bundle "a cat" --strength 0.5',
        "A strength needs a picture to start from; give one with it.",
    ),
    Case(
        'kdexport run bundle "a cat" --control photo.png --steps 1',
        "The bundle has no ControlNet, so it takes neither a control picture nor a control "
        "scale; leave them out, or export again with --controlnet.",
    ),
    Case(
        'kdexport run steered "a cat" --steps 1',
        "The bundle's ControlNet needs a picture to draw after; give one (--control FILE on the "
        "command line, control=… in Python).",
    ),
    Case(
        'kdexport run bundle "a cat" --provider gpu',
        "ONNX Runtime has no provider 'gpu'; choose cpu, ….",
    ),
    Case(
        'kdexport run bundle "a cat" --provider cuda',
        "The installed onnxruntime has no provider 'cuda', only …; choose one of these, or "
        "install the onnxruntime package that has it.",
    ),
    Case(
        'kdexport run bundle "a cat" --runtime tflite',
        "There is no runtime 'tflite'; choose onnxruntime, ….",
    ),
    Case(
        'kdexport run bundle "a cat" --runtime mil',
        "'bundle' is a bundle for onnx, which the runtime 'mil' does not read; choose the "
        "runtime onnxruntime or openvino.",
    ),
    Case(
        'kdexport run bundle "a cat" --runtime openvino --provider npu',
        "OpenVINO finds no device 'npu' here, only …; choose one of these, or install the driver "
        "that the device needs.",
    ),
    Case(
        'kdexport run bundle "a cat" --runtime openvino',
        "Running models in OpenVINO needs the package openvino; install it with `pip install "
        "kdexport[openvino]`.",
        when=("no_openvino",),
    ),
    Case(
        'kdexport run bundle "a cat"',
        "Running ONNX models needs onnxruntime; install it with `pip install kdexport[cpu]`, or "
        "`kdexport[gpu]` for NVIDIA GPUs.",
        when=("no_onnxruntime",),
    ),
    # Measuring.
    Case(
        "kdexport bench bundle --vs optimum",
        "There is nothing called 'optimum' to compare with; choose diffusers, …. Other tools are "
        "measured by scripts/bench_peers.",
    ),
    Case(
        "kdexport bench bundle --against model",
        "--against names a model for --vs; give that, or leave it out.",
    ),
    Case(
        "kdexport bench bundle --cores first",
        "'first' names no CPUs; give their numbers, such as 0,1.",
    ),
)


def _main(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    assert stop.value.code == 0


@pytest.fixture(scope="session")
def other_pipeline(micro, micro_pipeline, tmp_path_factory):
    """A pipeline with a U-Net of other widths."""
    folder = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(micro_pipeline, folder, ignore=shutil.ignore_patterns("unet"))
    text = json.loads((folder / "text_encoder" / "config.json").read_text())
    widths = {"block_out_channels": (24, 48), "cross_attention_dim": text["hidden_size"]}
    micro.save(folder, "unet", "UNet2DConditionModel", {**micro.UNET, **widths})
    return folder


@pytest.fixture(scope="session")
def steered_bundle(micro, micro_pipeline, tmp_path_factory):
    """A bundle with a ControlNet, not verified."""
    folder = tmp_path_factory.mktemp("steered")
    micro.save_controlnet(folder, micro_pipeline, 4)
    few = ("--schedulers", "", "--max-steps", 1, "--no-verify")
    net = ("--controlnet", folder / "controlnet")
    _main("onnx", micro_pipeline, "-o", folder / "bundle", *net, *few)
    return folder / "bundle"


@pytest.fixture(scope="session")
def adapter_of_other(lora, other_pipeline, tmp_path_factory):
    """An adapter for the U-Net of `other_pipeline`."""
    from safetensors.torch import load_file, save_file

    weights = load_file(other_pipeline / "unet" / "diffusion_pytorch_model.safetensors")
    made = lora.make_adapter({"unet": weights}, [("unet", name) for name in lora.UNET_ATTENTION])
    path = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    save_file({name: each.contiguous() for name, each in lora.kohya(made).items()}, path)
    return path


@pytest.fixture(scope="session")
def beside_model(micro_pipeline, tmp_path_factory):
    """Runs a command in a folder where the smallest pipeline is called `model`."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "model").symlink_to(micro_pipeline)

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            _main(*arguments)
        return folder

    return run


@pytest.fixture(scope="session")
def calibration(beside_model):
    """Calibration data of `model`."""
    return beside_model("calibrate", "model", "-o", "c.npz", "--steps", 1, "--samples", 1) / "c.npz"


@pytest.fixture(scope="session")
def table(beside_model):
    """A sensitivity table of `model`."""
    few = ("--count", 1, "--steps", 1, "--projections", 1, "--trials", 0, "--formats", "int8,int4")
    return beside_model("sensitivity", "model", "-o", "t.json", *few) / "t.json"


def pattern(message):
    """A message as a regular expression, with `…` for anything."""
    return re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL)


def said(err):
    """The error at the end of what a command printed, on one line."""
    found = re.search(r"^Error: (.*)\Z", err, re.DOTALL | re.MULTILINE)
    assert found is not None, err
    return " ".join(found[1].split())


def held(folder):
    """What lies in a folder; `kdexport quantize` leaves the one that it adds to, empty."""
    return sorted(each for each in folder.iterdir() if each.is_file() or any(each.iterdir()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command} {' '.join(case.when)}")
def test_case(case, conditions, request, tmp_path, monkeypatch, call):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    words = shlex.split(case.command)
    for name, make in conditions.FILES.items():
        # Also what a path begins with.
        if any(word.split("/")[0] == name for word in words[1:]):
            make(here / name, request)
    for name in case.when:
        conditions.CONDITIONS[name](here, monkeypatch, request)
    before = held(here)
    status, _, err = call(*words[1:])
    assert "Traceback" not in err
    assert pattern(case.message).fullmatch(said(err)), said(err)
    assert status == case.status
    # Whatever went wrong, nothing is half written.
    assert held(here) == before


_ROW = re.compile(
    r"^\| `(?P<command>[^`]+)`[^|]*\| (?P<status>\d) \| (?P<message>[^|]+) \|", re.MULTILINE
)


def rows(pages):
    """The rows of the page's tables: command, exit status, message."""
    return [
        (found["command"], int(found["status"]), found["message"])
        for found in _ROW.finditer(pages.text_of(PAGE))
    ]


def test_the_page_has_these_rows_and_no_others(pages):
    cases = [(case.command, case.status, case.message) for case in CASES]
    assert sorted(rows(pages)) == sorted(cases)
    assert len(set(cases)) == len(cases) >= 35
    # A row that the expression above does not read would be one that nobody provokes.
    tables = [line for line in pages.text_of(PAGE).splitlines() if line.startswith("| `kdexport")]
    assert len(tables) == len(cases)


def test_every_condition_is_used(conditions):
    assert {name for case in CASES for name in case.when} == set(conditions.CONDITIONS)


def test_another_message_does_not_fit():
    assert pattern("a … c.").fullmatch("a b c.")
    assert not pattern("a … c.").fullmatch("a b c, or d.")
    assert not pattern("a.").fullmatch("b")
