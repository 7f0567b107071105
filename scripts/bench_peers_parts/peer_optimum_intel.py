"""optimum-intel: its own export of the model, in OpenVINO."""

from __future__ import annotations

import os
import sys

from peer_shared import LikeDiffusers, main


class OptimumIntel(LikeDiffusers):
    """Draws with the pipelines `OV…` of optimum, fixed to the size of the drawing or not."""

    packages = ("optimum-intel", "openvino", "diffusers", "transformers", "torch")

    def import_packages(self) -> None:
        """Imports optimum."""
        import torch
        from optimum.intel import openvino  # noqa: F401

        torch.set_num_threads(self.tool["threads"])

    def load(self) -> None:
        """Reads and compiles its models, with a cache, which it has where it is told to."""
        from optimum.intel import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": self.tool["precision"],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(self.tool["threads"]),
            "CACHE_DIR": os.environ["KDEXPORT_BENCH_CACHE"],
        }
        kind = self.pipeline_class(openvino, "OV")
        self.pipeline = kind.from_pretrained(self.tool["folder"], compile=False, ov_config=settings)
        if self.tool["static"]:
            drawing = self.drawing
            self.pipeline.reshape(1, drawing["height"], drawing["width"], 1)
            if drawing["guidance"] <= 1:
                self._one_row()
        for name in ("text_encoder", "text_encoder_2", "unet", "vae_decoder"):
            part = getattr(self.pipeline, name, None)
            if part is not None:
                part.compile()
        self.instrument()

    def _one_row(self) -> None:
        """Without guidance the U-Net is fed one row; `reshape` makes it two in any case."""
        model = self.pipeline.unet.model
        shapes = {}
        for port in model.inputs:
            shapes[port] = port.get_partial_shape()
            if port.get_any_name() != "timestep":
                shapes[port][0] = 1
        model.reshape(shapes)


def export(model: str, folder: str) -> None:
    """Exports as `optimum-cli export openvino --weight-format fp32` does."""
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    main_export(
        model,
        folder,
        task="text-to-image",
        ov_config=OVConfig(dtype="fp32"),
        convert_tokenizer=False,
    )


if __name__ == "__main__":
    sys.exit(main(OptimumIntel, export))
