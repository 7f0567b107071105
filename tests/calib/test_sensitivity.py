"""Sensitivity, recipes and simulation on a real small pipeline, against plain autograd."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from kdexport.calib.budget import reaching_psnr, within_size
from kdexport.calib.gradients import GradientFile, Reach, collect, mean_square_effect, project
from kdexport.calib.loop import Loop, LoopModules, open_loops
from kdexport.calib.ranges import Activations, measure_activations, ranges_of
from kdexport.calib.sensitivity import SensitivityOptions, measure_sensitivity
from kdexport.calib.simulate import Simulation
from kdexport.calib.table import SensitivityTable, rank_correlation
from kdexport.core.calibration import Calibration
from kdexport.core.errors import CalibrationError, DiskSpaceError, OptionError
from kdexport.core.formats import FORMATS, is_worth_it
from kdexport.core.rounding import rounded
from kdexport.export.description import describe_pipeline
from kdexport.export.hub import HubOptions
from kdexport.export.load import load_checkpoint
from kdexport.runtimes.plan import make_plan
from kdexport.runtimes.request import Request

_STEPS = 2


def _quiet(_: str, __: float) -> None:
    """Reports nothing."""


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint("demo", HubOptions(None, None, offline=True), None)


@pytest.fixture(scope="module")
def modules(checkpoint) -> LoopModules:
    described = describe_pipeline(checkpoint, _STEPS)
    plans = [
        make_plan(
            Request(prompt=text, steps=_STEPS, seed=7, height=64, width=64), described.manifest
        )
        for text in ("a red circle", "two blue squares on yellow")
    ]
    return open_loops(checkpoint, plans, described.sampler.table(_STEPS), _quiet)


@pytest.fixture(scope="module")
def activations(tmp_path_factory) -> dict[str, Activations]:
    from kdexport.cli.main import main

    file = tmp_path_factory.mktemp("calibration") / "calib.npz"
    small = ["--samples", "4", "--steps", "2", "--size", "64", "64"]
    with pytest.raises(SystemExit) as stop:
        main(["calibrate", "demo", "-o", str(file), *small])
    assert stop.value.code == 0
    loaded = load_checkpoint("demo", HubOptions(None, None, offline=True), None)
    with Calibration.open(file) as data:
        return measure_activations(loaded, data, _quiet)


def _names(modules: LoopModules) -> list[str]:
    return [n for n, p in modules.unet.named_parameters() if is_worth_it(tuple(p.shape))]


def test_the_loop_draws_what_diffusers_draws(modules: LoopModules, checkpoint) -> None:
    from kdexport.runtimes.torch_ref import record_trajectories

    loop = modules.loops[0]
    (run,) = record_trajectories(checkpoint, [loop.plan], _quiet)
    samples, _ = loop.draw(modules.unet)
    np.testing.assert_allclose(samples[-1].numpy(), run.latents[-1], atol=2e-5)
    with torch.no_grad():
        picture = loop.decode(modules.vae, samples[-1])
    steps = (picture.clamp(-1, 1) / 2 + 0.5).mul(255).round().permute(0, 2, 3, 1)
    assert np.abs(steps.numpy() - run.images).max() <= 1


def test_gradients_are_those_of_the_whole_loop(modules: LoopModules, tmp_path: Path) -> None:
    """Against one backward pass through everything at once, without the sampler's adjoint."""
    loop = modules.loops[0]
    names = _names(modules)[::20]
    direction = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    reach = Reach()
    project(modules, loop, direction, names, reach)
    file = GradientFile(tmp_path / "g")
    collect(modules, names, file)

    unet = copy.deepcopy(modules.unet)
    parameters = dict(unet.named_parameters())
    for name in names:
        parameters[name].requires_grad_(True)
    outputs: list[torch.Tensor] = []
    for index in range(loop.table.calls):
        outputs.append(loop.guided(loop.call(unet, loop.latents(index, outputs), index)))
    picture = loop.decode(modules.vae, loop.latents(loop.table.calls, outputs))
    picture.backward(direction)
    for name in names:
        wanted = parameters[name].grad.numpy()
        error = np.linalg.norm(file.read(name) - wanted) / np.linalg.norm(wanted)
        assert error < 2e-3, name  # float16 on disk
        assert not dict(modules.unet.named_parameters())[name].requires_grad
    assert set(reach.input) > {"conv_in", "time_embedding.linear_1", "conv_out"}
    assert all(value > 0 for value in reach.input.values())


def test_the_estimate_of_a_change_is_its_effect_on_average(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    jacobian = random.standard_normal((50, 20)).astype(np.float32)
    change = random.standard_normal(20).astype(np.float32)
    files = []
    for index in range(400):
        signs = random.integers(0, 2, 50).astype(np.float32) * 2 - 1
        files.append(GradientFile(tmp_path / str(index)))
        files[-1].add("w", torch.from_numpy(signs @ jacobian))
    found = mean_square_effect("w", change, files)
    assert found == pytest.approx(float(np.square(jacobian @ change).sum()), rel=0.2)


@pytest.fixture(scope="module")
def table(modules: LoopModules, activations) -> SensitivityTable:
    formats = ("palette4", "palette2", "int8", "int8-static", "fp8")
    options = SensitivityOptions(formats, projections=4, trials=12)
    layers, trials = measure_sensitivity(modules, options, activations, _quiet)
    return SensitivityTable("demo", {}, {"unet": "ab"}, {}, layers, trials, ranges_of(activations))


def test_predictions_rank_what_drawing_measures(table: SensitivityTable) -> None:
    assert len(table.trials) == 12
    assert rank_correlation(table.trials) > 0.95
    ratios = [math.log(each.measured / each.predicted) for each in table.trials]
    assert abs(float(np.median(ratios))) < math.log(2.5)


def test_every_weight_has_every_format(table: SensitivityTable, modules: LoopModules) -> None:
    assert [each.name for each in table.layers] == _names(modules)
    for each in table.layers:
        assert each.errors["int8"] < each.errors["palette2"]
        assert each.errors["int8-static"] >= each.errors["int8"]


def test_a_mixture_draws_better_than_one_format_of_its_size(
    table: SensitivityTable, modules: LoopModules
) -> None:
    from kdexport.core.formats import stored_bytes

    simulation = Simulation(modules, {})
    size = sum(stored_bytes(FORMATS["palette4"], each.shape) for each in table.layers)
    uniform = simulation.measure({each.name: FORMATS["palette4"] for each in table.layers})
    candidates = ("int8", "palette4", "palette2")
    choice, found = within_size(table, simulation, candidates, size, 2)
    assert choice.bytes <= size
    assert found.image_psnr_db > uniform.image_psnr_db + 6
    assert found.image_psnr_db == pytest.approx(choice.predicted_psnr_db, abs=4)


def test_a_wanted_psnr_is_reached_with_less_than_the_finest(
    table: SensitivityTable, modules: LoopModules
) -> None:
    simulation, candidates = Simulation(modules, {}), ("int8", "palette4", "palette2")
    choice, found = reaching_psnr(table, simulation, candidates, 32.0, 2, _quiet)
    assert found.image_psnr_db >= 32
    more, _ = reaching_psnr(table, simulation, candidates, 44.0, 2, _quiet)
    assert choice.bytes < more.bytes


def test_simulated_weights_are_put_back(modules: LoopModules) -> None:
    before = {name: each.clone() for name, each in modules.unet.named_parameters()}
    simulation = Simulation(modules, {})
    name = _names(modules)[0]
    found = simulation.measure({name: FORMATS["palette2"]})
    assert 0 < found.error < math.inf
    assert simulation.measure({}).error == 0
    for key, each in modules.unet.named_parameters():
        assert torch.equal(each, before[key])


def test_a_simulated_weight_is_the_rounded_one(modules: LoopModules) -> None:
    """Against a copy of the model whose weight was replaced by hand."""
    loop, name = modules.loops[0], _names(modules)[3]
    unet = copy.deepcopy(modules.unet)
    weight = dict(unet.named_parameters())[name]
    weight.data = torch.from_numpy(rounded(FORMATS["palette2"], weight.numpy()))
    with torch.no_grad():
        drawn = [loop.decode(modules.vae, loop.draw(each)[0][-1]) for each in (unet, modules.unet)]
    wanted = float((drawn[0] - drawn[1]).square().mean()) * 127.5**2
    alone = LoopModules(modules.unet, modules.vae, (loop,))
    assert Simulation(alone, {}).measure({name: FORMATS["palette2"]}).error == pytest.approx(wanted)


@pytest.mark.parametrize("form", ["int8-static", "int8-dynamic", "fp8"])
def test_simulated_activations_are_rounded(modules: LoopModules, activations, form: str) -> None:
    simulation = Simulation(modules, ranges_of(activations))
    name = "up_blocks.1.resnets.0.conv1.weight"
    weights = {"fp8": "fp8"}.get(form, "int8")
    only = simulation.measure({name: FORMATS[weights]}).error if weights == "int8" else 0.0
    assert simulation.measure({name: FORMATS[form]}).error > only


def test_activations_without_ranges_are_refused(modules: LoopModules) -> None:
    with pytest.raises(CalibrationError, match=r"activations of conv_in"):
        Simulation(modules, {}).measure({"conv_in.weight": FORMATS["int8-static"]})
    with pytest.raises(OptionError, match="int8-static rounds activations"):
        measure_sensitivity(modules, SensitivityOptions(("int8-static",)), {}, _quiet)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"formats": ()}, "at least one weight format"),
        ({"formats": ("float",)}, "at least one weight format"),
        ({"formats": ("int5",)}, "no weight format 'int5'"),
        ({"formats": ("int8",), "projections": 0}, "at least one projection"),
        ({"formats": ("int8",), "trials": -1}, "no fewer than zero trials"),
    ],
)
def test_bad_options_are_refused(given: dict[str, object], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        SensitivityOptions(**given)


def test_too_little_space_for_gradients_is_said_first(
    modules: LoopModules, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(DiskSpaceError):
        measure_sensitivity(modules, SensitivityOptions(("int8",)), {}, _quiet)


def test_loops_without_guidance_have_one_row(checkpoint) -> None:
    described = describe_pipeline(checkpoint, 1)
    request = Request(prompt="a star", steps=1, seed=0, guidance=1.0, height=64, width=64)
    plan = make_plan(request, described.manifest)
    opened = open_loops(checkpoint, [plan], described.sampler.table(1), _quiet)
    loop: Loop = opened.loops[0]
    _, raw = loop.draw(opened.unet)
    assert raw[0].shape[0] == 1
