"""One resumable, seeded training run, the same for every stage."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a stage learns.

    Attributes:
        steps: Optimizer steps.
        batch: Rows of a step.
        rate: Peak learning rate; it rises over `warmup` steps and falls along half a cosine.
        warmup: Steps.
        decay: Of the moving average of the weights, which is what the stage ends with.
        seed: Every step draws from a generator seeded with this and its own number, so that a
            resumed run sees what an uninterrupted one would have seen.
        save_every: Steps between checkpoints.
        draw_every: Steps between sample sheets.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 200
    decay: float = 0.999
    seed: int = 0
    save_every: int = 100
    draw_every: int = 500

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.save_every, self.draw_every) < 1:
            raise ValueError("steps, batch, save_every and draw_every are at least 1")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


Loss = Callable[[int, torch.Generator], Mapping[str, Tensor]]


def fit(
    folder: Path, model: nn.Module, recipe: Recipe, loss: Loss, draw: Callable[[Path], None]
) -> None:
    """Trains a model in place and leaves the moving average of its weights in it.

    Args:
        folder: Of the stage: `state.pt` to resume from, `losses.jsonl`, `sheets/`, and at the end
            `final.pt`. A stage that has a `final.pt` is only loaded.
        model: What is trained; parameters that need no gradient stay as they are.
        recipe: How.
        loss: Maps a step and its generator to named losses; their sum is minimised.
        draw: Writes a sample sheet; called with the averaged weights in place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / "final.pt"
    if final.exists():
        model.load_state_dict(torch.load(final, weights_only=True))
        return
    run = _Run(folder, model, recipe)
    (folder / "sheets").mkdir(exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), refresh_per_second=1) as progress:
        task = progress.add_task(folder.name, total=recipe.steps, completed=run.step, note="")
        while run.step < recipe.steps:
            note = run.advance(loss)
            progress.update(task, completed=run.step, note=note)
            if run.step % recipe.save_every == 0:
                run.save()
            if run.step % recipe.draw_every == 0 or run.step == recipe.steps:
                run.draw(draw)
    run.finish(final)


class _Run:
    """The state of a run: weights, their average, the optimizer, the step."""

    def __init__(self, folder: Path, model: nn.Module, recipe: Recipe) -> None:
        self.folder, self.model, self.recipe = folder, model, recipe
        self.trained = [each for each in model.parameters() if each.requires_grad]
        self.average = [each.detach().clone() for each in self.trained]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.step, self.seconds = 0, 0.0
        self.sums: dict[str, float] = {}
        state = folder / "state.pt"
        if state.exists():
            self._load(torch.load(state, weights_only=True))

    def advance(self, loss: Loss) -> str:
        """One step; returns a line for the progress bar."""
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        losses = loss(self.step, generator)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.trained, 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"{self.folder.name}: not finite at step {self.step}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        # A short memory at first, so that the average does not remember the random start.
        decay = min(self.recipe.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.trained, 1 - decay)
        self.seconds += time.perf_counter() - start
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.item()
        if self.step % 20 == 0:
            self._log()
        return f"{self.step}/{self.recipe.steps}  loss {total.item():.4f}"

    def draw(self, draw: Callable[[Path], None]) -> None:
        """A sample sheet of the averaged weights."""
        self._swap()
        self.model.eval()
        with torch.no_grad():
            draw(self.folder / "sheets" / f"{self.step:06d}.png")
        self.model.train()
        self._swap()

    def save(self) -> None:
        """A checkpoint that replaces the last one whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        save_whole(state, self.folder / "state.pt")

    def finish(self, final: Path) -> None:
        """Leaves the averaged weights in the model and on disk."""
        self._swap()
        save_whole(self.model.state_dict(), final)
        (self.folder / "state.pt").unlink(missing_ok=True)

    def _load(self, state: Mapping[str, object]) -> None:
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.average = [each.detach() for each in state["average"]]  # type: ignore[call-overload]
        self.step, self.seconds = int(state["step"]), float(state["seconds"])  # type: ignore[call-overload, arg-type]

    def _swap(self) -> None:
        with torch.no_grad():
            for mine, mean in zip(self.trained, self.average, strict=True):
                kept = mine.clone()
                mine.copy_(mean)
                mean.copy_(kept)

    def _log(self) -> None:
        row = {"step": self.step, "seconds": round(self.seconds, 1)}
        row |= {name: round(total / 20, 6) for name, total in self.sums.items()}
        self.sums = {}
        with (self.folder / "losses.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def save_whole(data: object, path: Path) -> None:
    """Saves with torch; an interrupted save leaves an earlier file, or none, never half of one."""
    staging = path.with_suffix(".tmp")
    torch.save(data, staging)
    staging.replace(path)
