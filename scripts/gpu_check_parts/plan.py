"""What a check does, part by part.

Written without a GPU: the parts were listed, and those that a CPU can do were run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cases import Case, Effort
from .commands import make_bundle, make_model, verify
from .compare import compare_sides, draw_reference
from .parts import Part
from .sides import DiffusersSide, EngineSide, OrtSide, Side


class CasePlan:
    """The parts of one case, and where its files are."""

    def __init__(self, case: Case, effort: Effort, folder: Path, capability: str) -> None:
        """Plans; nothing is done.

        Args:
            case: The model.
            effort: How much is measured.
            folder: Where models, bundles and pictures go.
            capability: Compute capability of the GPU, such as `8.9`.
        """
        self._case, self._effort = case, effort
        self._models, self._bundles = folder / "models", folder / "bundles"
        self._pictures = folder / "pictures" / case.model
        self._target = f"sm_{capability.replace('.', '')}"
        self._model = self._models / case.model

    def parts(self) -> list[Part]:
        """Everything, in an order in which each part finds what it needs."""
        eager = self._diffusers("diffusers, eager", "float16")
        compiled = self._effort.compiled
        candidates: list[Side] = [
            self._diffusers(f"diffusers, torch.compile ({compiled})", "float16", compiled),
            *self._ort_sides(),
            *self._engine_sides(),
        ]
        return [
            self._part("model", {}, lambda end: make_model(self._case.model, self._model, end)),
            self._reference(),
            *self._bundle_parts(),
            *self._verifications(),
            self.comparison(eager, None),
            *(self.comparison(each, eager) for each in candidates),
        ]

    def comparison(self, candidate: Side, baseline: Side | None) -> Part:
        """The part that measures a side beside another."""
        drawing, rounds = self._case.drawing, self._effort.rounds
        settings = {
            "candidate": asdict(candidate),
            "baseline": None if baseline is None else asdict(baseline),
            "drawing": asdict(drawing),
            "rounds": asdict(rounds),
        }
        slug = "".join(c if c.isalnum() else "-" for c in candidate.name)
        return self._part(
            candidate.name,
            settings,
            lambda end: compare_sides(
                candidate,
                baseline,
                drawing,
                rounds,
                self._pictures / "reference" / "0.npy",
                self._pictures / slug,
                end,
            ),
        )

    def _reference(self) -> Part:
        side = self._diffusers("reference", "float32")
        drawing = self._case.drawing
        return self._part(
            "reference picture in float32",
            {"drawing": asdict(drawing)},
            lambda end: draw_reference(side, drawing, self._pictures / "reference", end),
        )

    def _bundle_parts(self) -> list[Part]:
        tables = ["--schedulers", "", "--max-steps", str(self._case.drawing.steps)]
        mixed = ["onnx", *tables, "--precision", "mixed"]
        portable = self._bundle("portable")
        parts = [
            self._make("fused", self._model, [*mixed, "--attention", "fused"]),
            self._make("portable", self._model, [*mixed, "--attention", "portable"]),
            self._make(
                "native", portable, ["tensorrt", "--engine", "native", "--gpu", self._target]
            ),
            self._make("rtx", portable, ["tensorrt", "--engine", "rtx", "--gpu", self._target]),
        ]
        if self._case.float32:
            parts.append(self._make("float32", self._model, ["onnx", *tables]))
        return parts

    def _verifications(self) -> list[Part]:
        cuda = ["--runtime", "onnxruntime", "--provider", "cuda"]
        parts = [
            self._verify("fused", cuda),
            self._verify("portable", ["--runtime", "onnxruntime", "--provider", "tensorrt"]),
            self._verify("native", ["--runtime", "tensorrt", "--provider", "cuda"]),
            self._verify("rtx", ["--runtime", "tensorrt-rtx", "--provider", "cuda"]),
        ]
        return [*parts, self._verify("float32", cuda)] if self._case.float32 else parts

    def _ort_sides(self) -> list[OrtSide]:
        fused, portable = str(self._bundle("fused")), str(self._bundle("portable"))
        return [
            OrtSide("ONNX Runtime, cuda", fused, "cuda"),
            OrtSide("ONNX Runtime, cuda, CUDA graphs", fused, "cuda", True),
            OrtSide("ONNX Runtime, tensorrt", portable, "tensorrt"),
            OrtSide("ONNX Runtime, nv_tensorrt_rtx", portable, "nv_tensorrt_rtx"),
        ]

    def _engine_sides(self) -> list[EngineSide]:
        native, rtx = str(self._bundle("native")), str(self._bundle("rtx"))
        return [
            EngineSide("TensorRT, CUDA graphs", native, "tensorrt", "cuda"),
            EngineSide("TensorRT, no CUDA graphs", native, "tensorrt", "cuda-no-graphs"),
            EngineSide("TensorRT for RTX, CUDA graphs", rtx, "tensorrt-rtx", "cuda"),
            EngineSide("TensorRT for RTX, no CUDA graphs", rtx, "tensorrt-rtx", "cuda-no-graphs"),
        ]

    def _diffusers(self, name: str, dtype: str, compiled: str | None = None) -> DiffusersSide:
        return DiffusersSide(name, str(self._model), "cuda", dtype, compiled)

    def _bundle(self, kind: str) -> Path:
        return self._bundles / f"{self._case.model}-{kind}"

    def _make(self, kind: str, source: Path, options: Sequence[str]) -> Part:
        folder = self._bundle(kind)
        return self._part(
            f"bundle {kind}",
            {"options": list(options)},
            lambda end: make_bundle(source, folder, options, end),
        )

    def _verify(self, kind: str, options: Sequence[str]) -> Part:
        steps = min(self._effort.verify_steps, self._case.drawing.steps)
        chosen = [*options, "--steps", str(steps)]
        return self._part(
            f"verify {kind} ({options[1]}, {options[3]})",
            {"options": chosen},
            lambda end: verify(self._bundle(kind), chosen, end),
        )

    def _part(self, what: str, settings: Mapping[str, Any], run: Any) -> Part:
        return Part(self._case.name, what, {**settings, "target": self._target}, run)
