"""Adapters (LoRA) that are fused into a model: as the user names them, and as they lie on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import OptionError

# The file that says how the weights beside it are scaled; PEFT writes it.
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Adapter:
    """An adapter as the user names it.

    Attributes:
        model: A file, a folder, a Hub id (`owner/name`), or a file of one (`owner/name/FILE`).
        scale: Factor of its updates, beside those that it brings itself.
        revision: Commit or branch of the Hub repository, or None for its default branch.
    """

    model: str
    scale: float = 1.0
    revision: str | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise OptionError("An adapter needs a name: a file, a folder or a Hub id.")
        if not math.isfinite(self.scale) or self.scale == 0:
            raise OptionError(
                f"The scale of the adapter '{self.model}' is {self.scale:g}; give a finite number "
                "other than 0, or leave the adapter out."
            )

    @classmethod
    def parse(cls, text: str) -> Adapter:
        """Reads `NAME` or `NAME:SCALE`; a colon that no number follows belongs to the name.

        Raises:
            OptionError: No name, or a scale that is 0 or not finite.
        """
        name, colon, number = text.rpartition(":")
        if not colon:
            return cls(text)
        try:
            scale = float(number)
        except ValueError:
            return cls(text)
        return cls(name, scale)


@dataclass(frozen=True)
class AdapterFile:
    """A weight file of an adapter.

    Attributes:
        file: The file.
        component: The component that all of it adapts (PEFT), or None where the names of its
            tensors say that (diffusers, kohya).
        config: What `adapter_config.json` beside it says; empty where there is none.
    """

    file: Path
    component: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that its effect depends on."""
        if self.component is None:
            return (self.file,)
        return (self.file, self.file.with_name(ADAPTER_CONFIG))


@dataclass(frozen=True)
class AdapterSource:
    """An adapter on disk; `adapter.revision` is the commit that was found."""

    adapter: Adapter
    files: tuple[AdapterFile, ...]
