"""The limit of the machine: how fast it multiplies matrices, and how much a picture multiplies."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdexport.core.guidance import is_guided
from kdexport.runtimes.bench.options import Drawing, Effort
from kdexport.runtimes.bench.report import Row

# Large enough to keep every core busy, small enough for a second each.
_SIDE, _REPEATS = 2048, 9


def multiply_rates(effort: Effort) -> dict[str, float]:
    """Measured multiply-accumulates per second, in a process with the threads of a contestant.

    Returns:
        By dtype, `float32` and `bfloat16`: the median of several products of square matrices, in
        the library that multiplies fastest. torch's float32 reaches half of what processors of
        AMD can.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(effort.threads)}
    cores = json.dumps(effort.cores)
    command = [sys.executable, str(Path(__file__)), str(effort.threads), cores]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def macs_of(model: str, drawing: Drawing) -> dict[str, int]:
    """Multiply-accumulates of the convolutions and linear layers of a picture, by component.

    What attention multiplies beside its linear layers is not counted.

    Args:
        model: A diffusers folder.
        drawing: The picture.
    """
    from kdexport.export.hub import HubOptions
    from kdexport.export.load import load_checkpoint
    from kdexport.export.sampler import compile_table, load_scheduler
    from kdexport.export.summary import summarize

    # Some schedulers call the U-Net more often than there are steps.
    scheduler = load_scheduler(load_checkpoint(model).scheduler)
    calls = compile_table(scheduler, drawing.steps).calls
    summary = summarize(model, HubOptions(), (drawing.height, drawing.width))
    rows = 2 if is_guided(drawing.guidance, summary.guidance_embedding) else 1
    each = {part.role: part.macs for part in summary.parts}
    times = {"unet": rows * calls, "vae_decoder": 1, "vae_encoder": 0}
    return {
        role: macs * times.get(role, rows) for role, macs in each.items() if role != "vae_encoder"
    }


def shares(
    rows: list[Row], macs: Mapping[str, int], rates: Mapping[str, float]
) -> dict[str, float]:
    """What share of the float32 rate each contestant reached, by name.

    It may be above 1: bfloat16 and integers are faster, and some kernels multiply less.
    """
    total = sum(macs.values())
    return {
        row.name: total / row.picture.median / rates["float32"]
        for row in rows
        if row.picture is not None
    }


def _measure(threads: int, cores: list[int] | None) -> dict[str, float]:
    if cores is not None:
        os.sched_setaffinity(0, cores)
    import torch

    torch.set_num_threads(threads)
    products = {
        "float32": [_in_torch(torch.float32), _in_numpy(), *_in_openvino("f32", threads)],
        "bfloat16": [_in_torch(torch.bfloat16), *_in_openvino("bf16", threads)],
    }
    return {
        name: _SIDE**3 / min(_seconds(multiply) for multiply in each)
        for name, each in products.items()
    }


def _in_torch(dtype: Any) -> Callable[[], Any]:
    import torch

    ours, theirs = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    return lambda: ours @ theirs


def _in_numpy() -> Callable[[], Any]:
    import numpy as np

    random = np.random.default_rng(0)
    ours, theirs = (random.standard_normal((_SIDE, _SIDE), np.float32) for _ in range(2))
    return lambda: ours @ theirs


def _in_openvino(precision: str, threads: int) -> list[Callable[[], Any]]:
    """The product with weights that it lays out first; nothing where it is not installed."""
    import numpy as np

    try:
        import openvino
        from openvino import opset13 as operators
    except ImportError:
        return []
    random = np.random.default_rng(0)
    ours, theirs = (random.standard_normal((_SIDE, _SIDE), np.float32) for _ in range(2))
    given = operators.parameter([_SIDE, _SIDE], np.float32)
    product = operators.matmul(given, operators.constant(theirs), False, False)
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    request = core.compile_model(
        openvino.Model([product], [given]), "CPU", settings
    ).create_infer_request()
    request.set_input_tensor(openvino.Tensor(ours))
    # The core must outlive what it compiled.
    return [lambda core=core: request.infer()]


def _seconds(multiply: Callable[[], Any]) -> float:
    multiply()
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        multiply()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]), json.loads(sys.argv[2]))))
