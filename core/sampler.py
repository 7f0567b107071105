"""The compiled sampler: a diffusers scheduler as a table of numbers.

For a fixed number of steps a linear scheduler makes every latent a weighted sum of the initial
noise, the (guided) model outputs so far and the fresh noise that it drew. `export/sampler.py`
reads the weights off the real scheduler; this module holds the table, its JSON form, and the
dozen lines of arithmetic that every runtime repeats.

With `x_T` the unit-variance initial noise, `out_j` the raw model output of call `j` and `noise_k`
the k-th fresh noise, row `i` gives the input of model call `i` (scaled as `scale_model_input`
does), and the last row the final latent::

    x_i = initial[i] * x_T + sum_j outputs[i][j] * out_j + sum_k noise[i][k] * noise_k
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import SamplerError, listing


@dataclass(frozen=True)
class SamplerTable:
    """The table of one scheduler at one number of steps.

    Attributes:
        timesteps: The timestep handed to the model at each call, `(calls,)`. `calls` can differ
            from the number of steps asked for (PNDM makes one more, Heun nearly twice as many).
        initial: Weight of the initial noise in each row, `(calls + 1,)`.
        outputs: Weights of the model outputs; row `i` has `i` of them.
        noise: Weights of the fresh noises; row `i` has one for each noise drawn before it.
        draws: How many fresh noises are drawn after each call, `(calls,)`.
        scale: Factor that `scale_model_input` put into each row, `(calls + 1,)`, the last one 1;
            a row divided by it is the latent itself, which previews decode.
    """

    timesteps: tuple[float, ...]
    initial: tuple[float, ...]
    outputs: tuple[tuple[float, ...], ...]
    noise: tuple[tuple[float, ...], ...]
    draws: tuple[int, ...]
    scale: tuple[float, ...]

    @property
    def calls(self) -> int:
        """Number of model evaluations."""
        return len(self.timesteps)

    def __post_init__(self) -> None:
        calls = len(self.timesteps)
        drawn = [sum(self.draws[:row]) for row in range(calls + 1)]
        lengths = (len(self.initial), len(self.outputs), len(self.noise), len(self.scale))
        if lengths != (calls + 1,) * 4 or len(self.draws) != calls:
            raise SamplerError(
                f"A sampler table with {calls} calls needs {calls + 1} rows and {calls} draws; "
                "export the model again."
            )
        for row in range(calls + 1):
            if len(self.outputs[row]) != row or len(self.noise[row]) != drawn[row]:
                raise SamplerError(
                    f"Row {row} of a sampler table has {len(self.outputs[row])} output and "
                    f"{len(self.noise[row])} noise weights instead of {row} and {drawn[row]}; "
                    "export the model again."
                )

    def row(
        self,
        index: int,
        initial: NDArray[np.float32],
        outputs: Sequence[NDArray[np.float32]],
        noises: Sequence[NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """Evaluates one row.

        Args:
            index: Row number, 0 to `calls`; the last one is the final latent.
            initial: Unit-variance noise, any shape, float32.
            outputs: Model outputs of calls 0 to `index - 1`, the shape of `initial`.
            noises: Fresh noises drawn so far, in order, the shape of `initial`.

        Returns:
            A new float32 array of the shape of `initial`.

        Raises:
            SamplerError: There are too few outputs or noises for this row.
        """
        if len(outputs) < index or len(noises) < len(self.noise[index]):
            raise SamplerError(
                f"Row {index} of the sampler needs {index} model outputs and "
                f"{len(self.noise[index])} noises, not {len(outputs)} and {len(noises)}; run the "
                "calls before it first."
            )
        # One-step models subtract two terms of about 14.6 times the signal: never below float32.
        total = np.multiply(initial, np.float32(self.initial[index]), dtype=np.float32)
        weights = (*self.outputs[index], *self.noise[index])
        tensors = (*outputs[:index], *noises[: len(self.noise[index])])
        for weight, tensor in zip(weights, tensors, strict=True):
            if weight != 0.0:
                total += np.float32(weight) * tensor
        return total

    def to_json(self) -> dict[str, Any]:
        """The table as JSON values; weights keep ten significant digits."""
        return {
            "timesteps": [ten_digits(value) for value in self.timesteps],
            "initial": [ten_digits(value) for value in self.initial],
            "outputs": [[ten_digits(value) for value in row] for row in self.outputs],
            "noise": [[ten_digits(value) for value in row] for row in self.noise],
            "draws": list(self.draws),
            "scale": [ten_digits(value) for value in self.scale],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SamplerTable:
        """Reads what `to_json` wrote; raises `SamplerError` where the rows do not fit."""
        return cls(
            timesteps=tuple(data["timesteps"]),
            initial=tuple(data["initial"]),
            outputs=tuple(tuple(row) for row in data["outputs"]),
            noise=tuple(tuple(row) for row in data["noise"]),
            draws=tuple(data["draws"]),
            scale=tuple(data["scale"]),
        )


@dataclass(frozen=True)
class Sampler:
    """A compiled scheduler: its tables by number of steps, and where they came from.

    Attributes:
        name: The name that `--scheduler` takes.
        scheduler: Class name of the diffusers scheduler.
        config: Its configuration, as `scheduler_config.json` has it.
        tables: Number of steps asked for, to table.
    """

    name: str
    scheduler: str
    config: Mapping[str, Any]
    tables: Mapping[int, SamplerTable]

    def table(self, steps: int) -> SamplerTable:
        """The table for `steps`; raises `SamplerError` naming the step counts that there are."""
        if steps not in self.tables:
            raise SamplerError(
                f"The bundle holds no {steps}-step table for the scheduler '{self.name}'; "
                f"it has {_ranges(sorted(self.tables))}: choose one of these, or export again "
                "with a larger --max-steps."
            )
        return self.tables[steps]

    def to_json(self) -> dict[str, Any]:
        """The sampler as JSON values."""
        return {
            "name": self.name,
            "scheduler": self.scheduler,
            "config": {key: _plain(value) for key, value in self.config.items()},
            "tables": {str(steps): table.to_json() for steps, table in self.tables.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sampler:
        """Reads what `to_json` wrote."""
        return cls(
            name=data["name"],
            scheduler=data["scheduler"],
            config=data["config"],
            tables={
                int(steps): SamplerTable.from_json(table) for steps, table in data["tables"].items()
            },
        )


def ten_digits(value: float) -> float:
    """A weight as the tables store it: float32 survives, and the files stay small."""
    return float(f"{value:.10g}")


def _plain(value: Any) -> Any:
    """DPM++ configs hold minus infinity, for which JSON has no number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _ranges(values: Sequence[int]) -> str:
    """Ascending step counts in words: ``1 to 50`` or ``1, 2, 4 to 8``."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return listing([text for run in runs for text in _run_words(run)])


def _run_words(run: Sequence[int]) -> list[str]:
    return [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(value) for value in run]
