"""Calibration data recorded of tiny pipelines, against what diffusers' own pipelines are fed."""

import json
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kdexport.calib.choice import UNGUIDED_EVERY, choose_calls, is_unguided
from kdexport.calib.drawing import Subject
from kdexport.calib.prompts import PROMPTS, default_prompts, read_prompts
from kdexport.calib.record import record_calibration
from kdexport.calib.world.captions import is_held_out
from kdexport.core.calibration import Calibration
from kdexport.core.calibration_options import CalibrationOptions
from kdexport.core.errors import CalibrationError, OptionError
from kdexport.core.options import ModelOptions
from kdexport.export.description import describe_pipeline
from kdexport.export.load import load_checkpoint
from kdexport.export.text import write_tokenizer_files
from kdexport.runtimes.tokenizer import ClipTokenizer
from PIL import Image
from safetensors.numpy import load_file, save_file

TEXTS = ("a cat", "two dogs, watercolour", "a boat on a lake", "a red car", "a vase")
PIXELS = 4  # per latent cell of the smallest VAE
QUIET = {"safety_checker": None, "requires_safety_checker": False}


def describe(folder, max_steps=5, **extra):
    checkpoint = load_checkpoint(str(folder), extra=ModelOptions(**extra))
    described = describe_pipeline(checkpoint, max_steps)
    return Subject(checkpoint, described.manifest, described.sampler, described.architecture)


@pytest.fixture(scope="module")
def subject(micro_pipeline):
    return describe(micro_pipeline)


def record(subject, path, texts=TEXTS, pictures=(), overwrite=False, **options):
    return record_calibration(
        subject,
        texts,
        pictures,
        CalibrationOptions(**{"steps": 3, "samples": 9, **options}),
        path,
        lambda *_: None,
        overwrite=overwrite,
    )


def edit(path, **changes):
    """Changes a JSON object; None removes a key."""
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: data[key] for key in data if data[key] is not None}))


@contextmanager
def spied(module, calls):
    """Appends everything that a module is called with, by argument."""

    def hook(_, inputs, keywords):
        names = ("sample", "timestep", "encoder_hidden_states", "controlnet_cond")
        calls.append({**dict(zip(names, inputs, strict=False)), **keywords})

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    yield
    handle.remove()


def draw(pipeline, prompt, guidance, seed, **options):
    """Draws with diffusers' own pipeline: calls of U-Net and ControlNet, and what is decoded."""
    seen = SimpleNamespace(unet=[], controlnet=[], latents=None)
    pipeline.set_progress_bar_config(disable=True)
    decode = pipeline.vae.decode

    def spy(latents, *inputs, **keywords):
        seen.latents = latents.numpy().copy()
        return decode(latents, *inputs, **keywords)

    pipeline.vae.decode = spy
    with spied(pipeline.unet, seen.unet), torch.no_grad():
        controlnet = getattr(pipeline, "controlnet", torch.nn.Identity())
        with spied(controlnet, seen.controlnet):
            generator = torch.Generator().manual_seed(seed)
            pipeline(prompt, guidance_scale=guidance, generator=generator, **options)
    del pipeline.vae.decode
    return seen


def assert_fed(sample, call, ports):
    """Holds a recorded sample against a spied call: each port against one of its arguments."""
    assert set(sample) == {"sample", "timestep", "encoder_hidden_states", *ports}
    ports = {**{name: name for name in ("sample", "encoder_hidden_states")}, **ports}
    for port, argument in ports.items():
        expected = call
        for key in argument.split("."):
            expected = expected[int(key) if key.isdigit() else key]
        assert sample[port].dtype == np.float32
        np.testing.assert_array_equal(sample[port], np.asarray(expected, np.float32), strict=True)
    assert sample["timestep"] == np.float32(call["timestep"])


def check_against(subject, data, pipeline, ports, texts=TEXTS, **arguments):
    """Holds everything recorded of U-Net, ControlNet and decoder against diffusers' pipeline."""
    kept = data.record
    calls = subject.sampler.table(3).calls
    chosen = choose_calls(len(texts), calls, 9, 0)
    numbers = sorted({each.prompt for each in chosen})
    assert kept.prompts == tuple(texts[number] for number in numbers)
    samples = {role: list(data.samples(role)) for role in kept.components}
    unet = iter(samples["unet"])
    controlnet = iter(samples.get("controlnet", ()))
    for number, decoded in zip(numbers, samples["vae_decoder"], strict=True):
        guidance = min(kept.guidance, 1.0) if is_unguided(number) else kept.guidance
        seen = draw(
            pipeline,
            texts[number],
            guidance,
            number,
            num_inference_steps=3,
            height=kept.height,
            width=kept.width,
            **arguments,
        )
        assert len(seen.unet) == calls
        np.testing.assert_array_equal(decoded["latent_sample"], seen.latents, strict=True)
        for each in chosen:
            if each.prompt == number:
                assert_fed(next(unet), seen.unet[each.call], ports.get("unet", {}))
                if seen.controlnet:
                    fed = seen.controlnet[each.call]
                    assert_fed(next(controlnet), fed, ports["controlnet"])
    assert not [*unet, *controlnet]


def test_sd(subject, micro_pipeline, tmp_path):
    made = record(subject, tmp_path / "calib.npz")
    assert made.components["unet"].samples == 9
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(micro_pipeline, **QUIET)
    with Calibration.open(tmp_path / "calib.npz") as data:
        assert data.record == made
        check_against(subject, data, pipeline, {})
        rows = Counter(len(sample["sample"]) for sample in data.samples("unet"))
        assert rows[1]
        assert rows[2] > rows[1]
        check_texts(subject, data, tmp_path)
        for component in subject.manifest.components:
            shapes = {each.name: each.shape for each in component.inputs}
            data.require_ports(component.role, shapes)
        data.require_model(subject.architecture, subject.checkpoint.model)
    assert made.weights_sha256 == dict(subject.manifest.source.weights_sha256)


def check_texts(subject, data, folder):
    """The tokens are those that the runtime feeds: the negative prompt before the prompt."""
    for encoding in subject.manifest.text:
        written = write_tokenizer_files(subject.checkpoint, encoding.role, folder)
        tokenizer = ClipTokenizer(written, folder)
        samples = list(data.samples(encoding.role))
        for number, sample in enumerate(samples):
            plain = is_unguided(number) or subject.manifest.zero_negative
            prompts = ([] if plain else [""]) + [data.record.prompts[number]]
            np.testing.assert_array_equal(sample["input_ids"], tokenizer(prompts).ids, strict=True)


@pytest.mark.parametrize("zeros", [True, False])
def test_sdxl(micro, narrow, tmp_path, zeros):
    folder = tmp_path / "sdxl"
    micro.save_sdxl_pipeline(folder, narrow("koala-700m"))
    edit(folder / "model_index.json", force_zeros_for_empty_prompt=zeros)
    subject = describe(folder)
    record(subject, tmp_path / "calib.npz", height=32, width=48)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    added = {name: f"added_cond_kwargs.{name}" for name in ("text_embeds", "time_ids")}
    with Calibration.open(tmp_path / "calib.npz") as data:
        check_against(subject, data, pipeline, {"unet": added})
        check_texts(subject, data, tmp_path)
        roles = {"text_encoder", "text_encoder_2", "unet", "vae_decoder"}
        assert set(data.record.components) == set(data.record.architecture) == roles
        sizes = {tuple(row) for sample in data.samples("unet") for row in sample["time_ids"]}
        assert sizes == {(32, 48, 0, 0, 32, 48)}


@pytest.fixture
def lcm(micro, narrow, tmp_path):
    folder = tmp_path / "lcm"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    width = json.loads((folder / "text_encoder" / "config.json").read_text())["hidden_size"]
    config = {**micro.UNET, "cross_attention_dim": width, "time_cond_proj_dim": 16}
    micro.save(folder, "unet", "UNet2DConditionModel", config)
    index = json.loads((folder / "model_index.json").read_text())
    edit(
        folder / "model_index.json",
        _class_name="LatentConsistencyModelPipeline",
        scheduler=["diffusers", "LCMScheduler"],
        # No longer the model that the twin was made of, whose card has other defaults.
        **dict.fromkeys(key for key in index if "kdexport" in key),
    )
    edit(folder / "scheduler" / "scheduler_config.json", clip_sample=False)
    return folder


def test_a_latent_consistency_model(lcm, tmp_path):
    subject = describe(lcm)
    record(subject, tmp_path / "calib.npz")
    pipeline = diffusers.LatentConsistencyModelPipeline.from_pretrained(lcm, **QUIET)
    with Calibration.open(tmp_path / "calib.npz") as data:
        assert data.record.guidance == 8.5
        check_against(subject, data, pipeline, {"unet": {"timestep_cond": "timestep_cond"}})
        samples = list(data.samples("unet"))
        assert {len(sample["sample"]) for sample in samples} == {1}
        # With guidance and without.
        assert len({sample["timestep_cond"].tobytes() for sample in samples}) == 2


def test_a_controlnet(micro, micro_pipeline, tmp_path):
    micro.save_controlnet(tmp_path, micro_pipeline, PIXELS)
    subject = describe(micro_pipeline, controlnet=str(tmp_path / "controlnet"), control_scale=0.7)
    squares = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    pictures = [Image.fromarray(squares), Image.fromarray(squares[::-1].copy())]
    made = record(subject, tmp_path / "calib.npz", pictures=pictures[:1])
    ports = [each.name for each in subject.manifest.component("controlnet").outputs]
    residuals = {
        port: f"down_block_additional_residuals.{index}" for index, port in enumerate(ports[:-1])
    }
    fed = {
        "unet": {**residuals, ports[-1]: "mid_block_additional_residual"},
        "controlnet": {
            "controlnet_cond": "controlnet_cond",
            "conditioning_scale": "conditioning_scale",
        },
    }
    pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
        micro_pipeline,
        controlnet=diffusers.ControlNetModel.from_pretrained(tmp_path / "controlnet"),
        **QUIET,
    )
    with Calibration.open(tmp_path / "calib.npz") as data:
        arguments = {"image": pictures[0], "controlnet_conditioning_scale": 0.7}
        check_against(subject, data, pipeline, fed, **arguments)
        conditions = {each["controlnet_cond"].tobytes() for each in data.samples("controlnet")}
        assert len(conditions) == 2  # with one row and with two
    assert made.components["controlnet"].timesteps == made.components["unet"].timesteps
    record(subject, tmp_path / "calib.npz", pictures=pictures, overwrite=True)
    with Calibration.open(tmp_path / "calib.npz") as data:
        rows = {row.tobytes() for s in data.samples("controlnet") for row in s["controlnet_cond"]}
        assert len(rows) == 2  # the prompts took them in turn
    record(subject, tmp_path / "calib.npz", samples=1, overwrite=True)


def test_a_picture_without_a_controlnet(subject, tmp_path):
    picture = Image.new("RGB", (8, 8))
    with pytest.raises(OptionError, match="has no ControlNet, so it takes neither"):
        record(subject, tmp_path / "calib.npz", pictures=[picture])


def test_more_calls_than_steps(micro, narrow, tmp_path):
    """PNDM calls the U-Net once more than there are steps, Heun nearly twice as often."""
    folder = tmp_path / "heun"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    edit(folder / "model_index.json", scheduler=["diffusers", "HeunDiscreteScheduler"])
    subject = describe(folder)
    made = record(subject, tmp_path / "calib.npz", samples=99)
    assert subject.sampler.table(3).calls == 5
    assert made.components["unet"].samples == 5 * len(TEXTS)
    expected = Counter()
    for timestep in subject.sampler.table(3).timesteps:
        expected[np.float32(timestep)] += len(TEXTS)
    assert Counter(map(np.float32, made.components["unet"].timesteps)) == expected


def test_the_same_bytes_twice_and_others_for_another_seed(subject, tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path, seed in zip(paths, (4, 4, 5), strict=True):
        record(subject, path, samples=4, seed=seed)
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second
    assert first != third


def test_prompts_of_which_nothing_is_kept_are_not_drawn(subject, tmp_path):
    made = record(subject, tmp_path / "calib.npz", samples=2)
    assert {each.samples for each in made.components.values()} == {2}
    assert len(made.prompts) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 6}, "cannot run 6 steps; choose at most 5"),
        ({"height": 10, "width": 16}, "height must be a multiple of 8 pixels, not 10"),
    ],
)
def test_what_cannot_be_drawn(subject, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        record(subject, tmp_path / "calib.npz", **options)
    assert list(tmp_path.iterdir()) == []


def never(*_):
    raise AssertionError("drawn")


def test_the_limit(subject, tmp_path, monkeypatch):
    """What fits is what is said to fit, and the bound is close to the size of the file."""
    texts = [f"prompt {number}" for number in range(6)]
    options = {"height": 256, "width": 256, "steps": 1}
    with monkeypatch.context() as patch:
        patch.setattr("kdexport.runtimes.torch_ref._run", never)
        message = (
            r"^6 samples of '.*' would take 1\.\d MB, more than the limit of 1 MB; pass --samples"
        )
        with pytest.raises(OptionError, match=message) as refused:
            record(subject, tmp_path / "calib.npz", texts, limit_mb=1, **options)
    assert list(tmp_path.iterdir()) == []
    fits = int(str(refused.value).split("--samples ")[1].split(",")[0])
    assert 1 <= fits < 6
    made = record(subject, tmp_path / "calib.npz", texts, limit_mb=1, samples=fits, **options)
    assert made.components["unet"].samples == fits
    size = (tmp_path / "calib.npz").stat().st_size
    assert size <= 1e6
    with pytest.raises(OptionError, match="more than the limit of 1 MB"):
        record(subject, tmp_path / "calib.npz", texts, limit_mb=1, samples=fits + 1, **options)
    with pytest.raises(
        OptionError, match=r"a single one takes \d\.\d MB: pass a larger --limit-mb"
    ):
        record(
            subject, tmp_path / "b", texts, limit_mb=1, samples=1, steps=1, height=1024, width=1024
        )


def test_nothing_is_left_of_a_cancelled_run(subject, tmp_path):
    seen = []

    def cancel(what, share):
        seen.append((what, share))
        if what == "drawing" and share > 0.4:
            assert [path.stat().st_size for path in tmp_path.glob(".calib*/calib.npz")] != [0]
            raise KeyboardInterrupt

    options = CalibrationOptions(steps=3, samples=9)
    with pytest.raises(KeyboardInterrupt):
        record_calibration(subject, TEXTS, (), options, tmp_path / "calib.npz", cancel)
    assert list(tmp_path.iterdir()) == []
    shares = [share for what, share in seen if what == "drawing"]
    assert shares == sorted(shares)
    assert seen[0] == ("text encoders", 0.0)


def test_a_model_that_feeds_nan(micro, narrow, tmp_path):
    folder = tmp_path / "model"
    micro.save_pipeline(folder, narrow("bk-sdm-small"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_out.bias"][0] = np.nan
    save_file(tensors, path)
    with pytest.raises(CalibrationError, match=r"feeds NaN or infinite values to '.*' of the"):
        record(describe(folder), tmp_path / "calib.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_clip_skip_keeps_the_tokens(micro_pipeline, tmp_path):
    subject = describe(micro_pipeline, clip_skip=1)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(micro_pipeline, **QUIET)
    encoder = pipeline.text_encoder
    if not hasattr(encoder, "text_model"):
        # diffusers' clip_skip looks for the norm where transformers had it before version 5.
        vars(encoder)["text_model"] = encoder
    record(subject, tmp_path / "calib.npz")
    with Calibration.open(tmp_path / "calib.npz") as data:
        check_against(subject, data, pipeline, {}, clip_skip=1)


def test_the_architecture_is_that_of_the_weights(subject, micro_pipeline, micro, tmp_path):
    other = tmp_path / "other"
    micro.save_pipeline(other, micro_pipeline)
    same = describe(other)
    assert same.architecture == subject.architecture
    config = json.loads((other / "unet" / "config.json").read_text())
    wider = {**micro.UNET, "cross_attention_dim": config["cross_attention_dim"]}
    micro.save(other, "unet", "UNet2DConditionModel", {**wider, "block_out_channels": (16, 48)})
    changed = describe(other)
    record(subject, tmp_path / "calib.npz", samples=1)
    with Calibration.open(tmp_path / "calib.npz") as data:
        data.require_model(same.architecture, "same")
        with pytest.raises(CalibrationError, match=r"has another unet; record 'changed' with"):
            data.require_model(changed.architecture, "changed")


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 300), st.integers(0, 2**40))
def test_the_choice(prompts, calls, samples, seed):
    chosen = choose_calls(prompts, calls, samples, seed)
    assert chosen == choose_calls(prompts, calls, samples, seed)
    assert len(chosen) == len(set(chosen)) == min(samples, prompts * calls)
    assert all(0 <= each.prompt < prompts and 0 <= each.call < calls for each in chosen)
    by_call, by_prompt = ([getattr(c, name) for c in chosen] for name in ("call", "prompt"))
    for numbers, count in ((by_call, calls), (by_prompt, prompts)):
        times = [numbers.count(number) for number in range(count)]
        assert max(times) - min(times) <= 1
    # As many stretches of the run as there are samples, or calls: each of them is hit.
    bins = min(len(chosen), calls)
    assert {
        np.searchsorted(np.arange(1, bins + 1) * calls // bins, c, "right") for c in by_call
    } == {*range(bins)}


@given(st.integers(1, 10), st.integers(1, 30), st.integers(0, 99))
def test_unguided_calls_cover_the_run_as_well(groups, calls, seed):
    """One call in four is unguided; with enough samples, one at every timestep."""
    prompts = groups * UNGUIDED_EVERY
    chosen = sorted(choose_calls(prompts, calls, 64, seed), key=lambda each: each.call)
    unguided = [each.call for each in chosen if is_unguided(each.prompt)]
    assert len(unguided) == len(chosen) // UNGUIDED_EVERY
    if len(chosen) >= UNGUIDED_EVERY * calls:
        assert set(unguided) == set(range(calls))


def test_the_seed_changes_the_choice():
    assert len({choose_calls(32, 26, 64, seed) for seed in range(20)}) == 20


def test_built_in_prompts(subject, micro_pipeline):
    assert default_prompts(subject.checkpoint, 0) == PROMPTS
    assert len(set(PROMPTS)) == 32
    demo = load_checkpoint("demo")
    captions = default_prompts(demo, 0)
    assert len(set(captions)) == 32
    assert not any(map(is_held_out, captions))
    assert captions == default_prompts(demo, 0)
    assert captions != default_prompts(demo, 1)


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(
        "\ufeffa cat \n\n# no prompt\n  #5, neither\nžluťoučký kůň\r\n", encoding="utf-8"
    )
    assert read_prompts(path) == ("a cat", "žluťoučký kůň")
    path.write_text("\n# nothing\n")
    with pytest.raises(OptionError, match="has no prompts; write one a line"):
        read_prompts(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(OptionError, match=r"cannot be read .* name a text file in UTF-8"):
        read_prompts(path)
    with pytest.raises(OptionError, match="cannot be read"):
        read_prompts(tmp_path / "missing")
