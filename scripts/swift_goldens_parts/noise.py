"""Random numbers of torch and NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .files import Pool, write_json

Draws = list[NDArray[np.float32]]

SEEDS = (0, 1, 42, 12345, 2**31, 2**32 - 1)
LARGE_SEEDS = (2**32, 2**32 + 5, 2**40 + 3, 2**63, 2**64 - 1)
# Each line is drawn from one generator, one shape after the other.
SHAPES: tuple[tuple[tuple[int, ...], ...], ...] = (
    *(((size,),) for size in (*range(1, 18), 31, 32, 33, 100)),
    ((),),
    ((0, 4), (3,)),
    ((1, 4, 64, 64),),
    ((2, 4, 16, 16), (2, 4, 16, 16), (2, 4, 16, 16)),
    ((3,), (20,), (1,), (4, 16), (2,)),
    ((15,), (17,), (15,), (16,), (1,)),
    ((1, 4, 7, 9), (5,), (2, 3), (1, 4, 7, 9)),
)


def torch_draws(seed: int, shapes: Sequence[tuple[int, ...]]) -> Draws:
    """Successive draws of one torch generator."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return [torch.randn(shape, generator=generator).numpy() for shape in shapes]


def numpy_draws(seed: int, shapes: Sequence[tuple[int, ...]]) -> Draws:
    """Successive draws of one NumPy generator."""
    state = np.random.RandomState(seed)
    return [np.asarray(state.standard_normal(shape), np.float32) for shape in shapes]


def write_noise(out: Path) -> int:
    """Writes `noise.json`; returns the number of draws."""
    pool = Pool("<f4")
    cases = {
        "torch": _cases(pool, torch_draws, (*SEEDS, *LARGE_SEEDS)),
        "numpy": _cases(pool, numpy_draws, SEEDS),
    }
    pool.write(out / "noise.f32")
    write_json(out / "noise.json", {"tolerance": tolerance(), **cases})
    return sum(len(case["draws"]) for rows in cases.values() for case in rows)


def tolerance() -> float:
    """How far torch's longer draws may be off, of the larger of 1 and the value.

    Its vectorised logarithm, sine and cosine are rounded differently by processors: up to 2.4e-7
    where there is AVX2, up to 2.3e-6 elsewhere.
    """
    return 5e-7 if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else 3e-6


def _cases(
    pool: Pool,
    draw: Callable[[int, Sequence[tuple[int, ...]]], Draws],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "draws": [pool.add(array) for array in draw(seed, shapes)]}
        for seed in seeds
        for shapes in SHAPES
    ]
