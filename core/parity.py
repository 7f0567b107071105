"""The parity record: what was compared, how it came out, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .compare import Difference, ImageDifference

# What a record's `runtime` says under `tensorrt` where a bundle's engines did not run.
NOT_EXECUTED = "engines built, not executed; the ONNX files that they were built from were"


@dataclass(frozen=True)
class ComponentCheck:
    """One output of one component on one recorded input.

    Attributes:
        role: The component.
        output: Name of the output.
        case: Which input, in words.
        precision: The precision whose gate applies.
        gate: The gate in words.
        difference: The comparison.
        passed: Whether the gate holds.
    """

    role: str
    output: str
    case: str
    precision: str
    gate: str
    difference: Difference
    passed: bool

    @property
    def told(self) -> str:
        """What was found, where, and what was needed."""
        found = _figures(self.difference)
        return f"{self.role} {self.output} at {self.case}: {found}, needed {self.gate}"


@dataclass(frozen=True)
class StepCheck:
    """The latents after one model call; informative, without a gate."""

    index: int
    timestep: float
    difference: Difference


@dataclass(frozen=True)
class ImageCheck:
    """One whole run: prompt to 8-bit image.

    Attributes:
        case: Size, rows and steps, in words.
        prompt: The prompt.
        gate: The gate in words.
        steps: The latents after every call.
        images: The comparison of each image; empty where the run broke off.
        passed: Whether the gate holds for every image.
        broken: Why the run broke off, or None.
    """

    case: str
    prompt: str
    gate: str
    steps: tuple[StepCheck, ...]
    images: tuple[ImageDifference, ...]
    passed: bool
    broken: str | None = None

    @property
    def told(self) -> str:
        """What was found, where, and what was needed."""
        figures = [f"PSNR {each.psnr_db:.1f} dB" for each in self.images]
        return f"image at {self.case}: {self.broken or ', '.join(figures)}, needed {self.gate}"


@dataclass(frozen=True)
class QualityCheck:
    """How well held-out captions were followed, by the bundle and by the reference.

    Attributes:
        captions: How many captions were drawn.
        bundle: The bundle's rate of right pictures by attribute, 0 to 1.
        reference: The reference's.
        unlike: How many of the 8-bit pictures miss the image gate of the bundle's precision. Not
            gated itself: over many steps a U-Net may turn a rounding error into another picture
            of the same caption.
        gate: The gate in words.
        passed: Whether it holds.
    """

    captions: int
    bundle: Mapping[str, float]
    reference: Mapping[str, float]
    unlike: int
    gate: str
    passed: bool

    @property
    def told(self) -> str:
        """What was found, and what was needed."""
        ours, theirs = self.bundle["overall"], self.reference["overall"]
        found = f"{100 * ours:.1f} of 100 against {100 * theirs:.1f}"
        return f"captions: {found}, needed {self.gate}"


@dataclass(frozen=True)
class ParityRecord:
    """Everything that a verification found.

    Attributes:
        reference: What the bundle was compared with: model, precision, versions.
        runtime: Engine and provider that ran the bundle.
        components: The component checks.
        runs: The whole runs.
        seconds: Wall time by stage.
        quality: How well captions are followed, for models whose pictures can be scored.
        drawn: What was drawn, by the options of `kdexport verify`: `steps`, `seed`, `guidance`,
            `size` (height and width) and `prompts`. Empty in records of older versions.
    """

    reference: Mapping[str, str]
    runtime: Mapping[str, str]
    components: tuple[ComponentCheck, ...]
    runs: tuple[ImageCheck, ...]
    seconds: Mapping[str, float]
    quality: QualityCheck | None = None
    drawn: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(self.verdicts)

    @property
    def verdicts(self) -> tuple[bool, ...]:
        """Whether each gate holds."""
        quality = () if self.quality is None else (self.quality.passed,)
        parts, runs = (tuple(e.passed for e in each) for each in (self.components, self.runs))
        return (*parts, *runs, *quality)

    def failures(self) -> tuple[str, ...]:
        """Each failed gate in a few words."""
        quality = () if self.quality is None else (self.quality,)
        checks = (*self.components, *self.runs, *quality)
        return tuple(check.told for check in checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "passed": self.passed,
            "reference": dict(self.reference),
            "runtime": dict(self.runtime),
            "components": [
                {**vars(check), "difference": check.difference.to_json()}
                for check in self.components
            ],
            "runs": [
                {
                    **vars(run),
                    "steps": [
                        {**vars(step), "difference": step.difference.to_json()}
                        for step in run.steps
                    ],
                    "images": [image.to_json() for image in run.images],
                }
                for run in self.runs
            ],
            **({"quality": vars(self.quality)} if self.quality else {}),
            "drawn": dict(self.drawn),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def _figures(difference: Difference) -> str:
    if not difference.finite:
        return "NaN or Inf"
    return f"relative L2 {difference.relative_l2:.2e}, PSNR {difference.psnr_db:.1f} dB"
