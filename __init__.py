"""kdexport: export distilled diffusion models and prove that they still draw the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtimes.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads `Pipeline` when it is first asked for, so that `import kdexport` stays light."""
    if name == "Pipeline":
        from .runtimes.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
