"""Records what diffusers feeds every component of a pipeline, as calibration data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from ..core.calibration import CalibrationRecord
from ..core.calibration_archive import FORMAT_VERSION
from ..core.calibration_options import CalibrationOptions
from ..core.calibration_writer import CalibrationWriter
from ..core.errors import OptionError
from ..core.folder import whole_file
from ..runtimes.plan import Plan
from .drawing import Drawn, Subject, plan_runs
from .sizes import file_bytes

if TYPE_CHECKING:
    from ..runtimes.torch_recording import Case, Trajectory

Report = Callable[[str, float], None]

_MB = 1_000_000


def record_calibration(
    subject: Subject,
    prompts: Sequence[str],
    pictures: Sequence[Image],
    options: CalibrationOptions,
    path: Path,
    report: Report,
    *,
    overwrite: bool = False,
) -> CalibrationRecord:
    """Draws the prompts with diffusers in float32 and writes what its components were fed.

    Args:
        subject: The pipeline.
        prompts: What to draw.
        pictures: What a ControlNet draws after, in turn; empty for a built-in one.
        options: How much of what to record.
        path: The file to make; it appears whole or not at all.
        report: Told what is being done and how far it is, 0 to 1.
        overwrite: Replace an existing file.

    Returns:
        What was recorded.

    Raises:
        OptionError: The pipeline cannot draw what the options ask for, or the data would take more
            than the limit; nothing is drawn then.
        CalibrationError: The reference feeds NaN to one of its components.
        KdexportError: The reference cannot be run, or nothing can be written there.
    """
    from ..runtimes.torch_ref import stream_calls

    drawn = plan_runs(subject, prompts, pictures, options, options.samples)
    needed = file_bytes(subject.manifest, drawn.plans, drawn.chosen)
    if needed > options.limit_mb * _MB:
        count = len(drawn.chosen)
        raise OptionError(_too_large(subject, prompts, pictures, options, count))
    report("text encoders", 0.0)
    with (
        whole_file(path, needed_bytes=needed, overwrite=overwrite) as staging,
        CalibrationWriter(staging) as writer,
    ):
        sink = _Sink(writer, drawn, report)
        stream_calls(subject.checkpoint, list(drawn.plans.values()), sink)
        record = _record(subject, prompts, drawn, options, writer)
        writer.finish(record)
    return record


class _Sink:
    """Writes the chosen calls as they come."""

    def __init__(self, writer: CalibrationWriter, drawn: Drawn, report: Report) -> None:
        self._writer = writer
        self._report = report
        self._runs = {plan: index for index, plan in enumerate(drawn.plans.values())}
        self._calls = drawn.calls
        self._wanted = {
            plan: {each.call for each in drawn.chosen if each.prompt == number}
            for number, plan in drawn.plans.items()
        }
        self._texts: dict[tuple[Plan, str], list[NDArray[Any]]] = defaultdict(list)

    def wants(self, run: Trajectory) -> bool:
        """See `Sink`."""
        call = len(run.timesteps)
        done = self._runs[run.plan] * self._calls + call
        self._report("drawing", done / (len(self._runs) * self._calls))
        return call in self._wanted[run.plan]

    def take(self, run: Trajectory, case: Case) -> None:
        """See `Sink`."""
        if not case.role.startswith("text_encoder"):
            self._writer.add(case.role, case.feed)
            return
        # diffusers encodes the prompt, then the negative one; the runtime both, that one first.
        rows = self._texts[run.plan, case.role]
        rows.insert(0, case.feed["input_ids"])
        if len(rows) == len(run.plan.prompts) + len(run.plan.negatives or ()):
            self._writer.add(case.role, {"input_ids": np.concatenate(rows)})
            del self._texts[run.plan, case.role]


def _record(
    subject: Subject,
    prompts: Sequence[str],
    drawn: Drawn,
    options: CalibrationOptions,
    writer: CalibrationWriter,
) -> CalibrationRecord:
    manifest = subject.manifest
    first = next(iter(drawn.plans.values()))
    components = writer.components
    return CalibrationRecord(
        format_version=FORMAT_VERSION,
        kdexport=manifest.tools["kdexport"],
        model=manifest.source.model,
        weights_sha256=manifest.source.weights_sha256,
        architecture=subject.architecture,
        family=manifest.family,
        prompts=tuple(prompts[number] for number in drawn.plans),
        seed=options.seed,
        steps=first.steps,
        guidance=drawn.guidance,
        height=first.height,
        width=first.width,
        components={
            each.role: components[each.role]
            for each in manifest.components
            if each.role in components
        },
    )


def _too_large(
    subject: Subject,
    prompts: Sequence[str],
    pictures: Sequence[Image],
    options: CalibrationOptions,
    count: int,
) -> str:
    """What to say where `count` samples would take more than the limit."""

    def megabytes(samples: int) -> float:
        drawn = plan_runs(subject, prompts, pictures, options, samples)
        return file_bytes(subject.manifest, drawn.plans, drawn.chosen) / _MB

    fits, too_many = 0, count
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if megabytes(middle) <= options.limit_mb:
            fits = middle
        else:
            too_many = middle
    advice = f"pass --samples {fits}, which fit, or a larger --limit-mb"
    if not fits:
        advice = f"a single one takes {megabytes(1):.1f} MB: pass a larger --limit-mb"
    return (
        f"{count} samples of '{subject.checkpoint.model}' would take {megabytes(count):.1f} MB, "
        f"more than the limit of {options.limit_mb} MB; {advice}, or a smaller --size."
    )
