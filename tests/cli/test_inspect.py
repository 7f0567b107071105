"""`kdexport inspect` of models, and its plans."""

import json

import pytest
from kdexport.cli import planning
from kdexport.export.plan.make import PLANNERS


def test_a_model(call, micro_pipeline):
    status, out, err = call("inspect", micro_pipeline, "--json")
    assert status == 0, err
    data = json.loads(out)
    assert {part["role"] for part in data["parts"]} >= {"text_encoder", "unet", "vae_decoder"}
    assert "plans" not in data


def test_the_model_in_the_box(call):
    # Its text is shorter than that of Stable Diffusion.
    status, out, err = call("inspect", "demo", "--json")
    assert status == 0, err
    parts = {part["role"]: part for part in json.loads(out)["parts"]}
    assert parts["unet"]["parameters"] == 4_101_756
    assert parts["text_encoder"]["macs"] > 0


def test_plans(call, micro_pipeline):
    status, out, err = call("inspect", micro_pipeline, "--plan", "--json")
    assert status == 0, err
    plans = json.loads(out)["plans"]
    assert [plan["backend"] for plan in plans] == [*PLANNERS]
    status, out, err = call("inspect", micro_pipeline, "--plan", "--size", 32, 32)
    assert status == 0, err
    for backend in PLANNERS:
        assert f"kdexport {backend} " in out
    assert "Unet.mlpackage" in out
    assert "estimates" in out


def test_a_size_that_does_not_fit(call, micro_pipeline):
    status, _, err = call("inspect", micro_pipeline, "--plan", "--size", 33, 32)
    assert (status, "must be in multiples of" in err) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--plan",), "--plan is of models, and '{bundle}' is a bundle; leave it out."),
        (
            ("--size", 16, 16, "--decoder", "demo-tiny", "--base", "x", "--config", "x"),
            "--size, --decoder, --base, --config are of models, and '{bundle}' is a bundle; leave "
            "them out.",
        ),
        (
            ("--variant", "fp16", "--controlnet", "x"),
            "--variant, --controlnet are of models, and",
        ),
        (("--revision", "v1"), "is no repository of the Hub, so it has no revision 'v1'"),
    ],
)
def test_a_bundle_takes_no_options_of_models(call, micro_bundle, options, message):
    status, out, err = call("inspect", micro_bundle, *options)
    assert (status, out) == (1, "")
    assert message.format(bundle=micro_bundle) in " ".join(err.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (12, "10 s"), (88, "90 s"), (100, "2 min"), (3000, "50 min"), (7200, "2.0 h")],
)
def test_durations(seconds, text):
    assert planning._duration(seconds) == text
