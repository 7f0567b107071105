"""The process of a bundle on an engine; `python -m kdexport.runtimes.bench.worker`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from .protocol import Parts, serve

# Distributions that may bring what draws.
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt-rtx", "tensorrt", "numpy")


class BundleWorker:
    """Draws as `kdexport run` does: the files are checked, the components opened, then used."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.parts = Parts()
        self._tool, self._drawing = request["tool"], request["drawing"]
        self._pipeline: Any = None

    def import_packages(self) -> None:
        """Imports what loads bundles; engines import their own packages as they load."""
        from .. import pipeline  # noqa: F401

    def load(self) -> None:
        """Loads the bundle, the check of the files included, and times its components."""
        from ..pipeline import Pipeline

        tool = self._tool
        self._pipeline = Pipeline.load(
            tool["bundle"],
            runtime=tool["runtime"],
            provider=tool["provider"],
            threads=tool["threads"],
        )
        for role, runner in self._pipeline.components.runners.items():
            # An engine that keeps its arrays on a device does not come through here.
            vars(runner)["run"] = self.parts.timed(role, runner.run)

    def draw(self) -> Any:
        """Draws the picture."""
        import numpy as np

        drawing = self._drawing
        image = self._pipeline(
            drawing["prompt"],
            steps=drawing["steps"],
            guidance=drawing["guidance"],
            seed=drawing["seed"],
            height=drawing["height"],
            width=drawing["width"],
        )
        return np.asarray(image)

    def versions(self) -> dict[str, str]:
        """Versions of this package and of the engines that are installed."""
        from ... import __version__

        found = {"kdexport": __version__}
        for name in _PACKAGES:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return found


if __name__ == "__main__":
    serve(BundleWorker)
