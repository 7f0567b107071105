"""What compiled tables hold: published constants, timesteps, calls and draws."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from kdexport.export.sampler import SCHEDULERS, compile_table, load_scheduler, make_scheduler

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}
needs_scipy = pytest.mark.skipif(not find_spec("scipy"), reason="LMS needs scipy")
NAMES = [pytest.param(name, marks=needs_scipy if name == "lms" else ()) for name in SCHEDULERS]


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_one_step_constants_of_sdxs(spacing):
    config = {**SD, "_class_name": "DEISMultistepScheduler", "timestep_spacing": spacing}
    table = compile_table(load_scheduler(config), 1)
    assert table.timesteps == (999.0,)
    # Published in the one-step pipelines of SDXS-512-DreamShaper ports.
    assert table.initial[-1] == pytest.approx(14.642591, abs=1e-6)
    assert table.outputs[-1] == pytest.approx((-14.579279,), abs=1e-6)


def test_one_step_constants_of_euler_trailing():
    table = compile_table(make_scheduler("euler-trailing", SD), 1)
    assert table.timesteps == (999.0,)
    assert table.initial == pytest.approx((0.99767, 14.6146), abs=1e-4)
    assert table.outputs[-1] == pytest.approx((-14.6146,), abs=1e-4)
    assert table.scale == pytest.approx((1 / np.sqrt(14.6146**2 + 1), 1.0), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_holds_what_the_unet_receives(name):
    scheduler = make_scheduler(name, SD)
    table = compile_table(scheduler, 7)
    scheduler.set_timesteps(7)
    assert table.timesteps == tuple(float(t) for t in scheduler.timesteps)
    sigma = float(scheduler.init_noise_sigma)
    assert table.initial[0] == pytest.approx(sigma * table.scale[0], rel=1e-6)
    assert table.scale[-1] == 1.0


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (2, 3), (25, 26), (50, 51)])
def test_pndm_makes_one_call_more(steps, calls):
    assert compile_table(load_scheduler(SD), steps).calls == calls


@pytest.mark.parametrize("name", ["heun", "kdpm2", "kdpm2-ancestral"])
def test_second_order_schedulers_make_two_calls_a_step(name):
    assert compile_table(make_scheduler(name, SD), 10).calls == 19


@pytest.mark.parametrize(
    ("steps", "timesteps"), [(1, (999,)), (2, (999, 499)), (4, (999, 759, 499, 259))]
)
def test_lcm_timesteps(steps, timesteps):
    table = compile_table(make_scheduler("lcm", SD), steps)
    assert table.timesteps == timesteps
    # Fresh noise after every step but the last.
    assert table.draws == (1,) * (steps - 1) + (0,)


def test_tcd_is_deterministic_as_in_the_pipeline():
    assert sum(compile_table(make_scheduler("tcd", SD), 4).draws) == 0
