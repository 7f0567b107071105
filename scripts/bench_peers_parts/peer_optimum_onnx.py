"""optimum-onnx: its own export of the model, in ONNX Runtime."""

from __future__ import annotations

import sys

from peer_shared import LikeDiffusers, main


class OptimumOnnx(LikeDiffusers):
    """Draws with the pipelines `ORT…` of optimum."""

    packages = ("optimum-onnx", "onnxruntime", "diffusers", "transformers", "torch")

    def import_packages(self) -> None:
        """Imports optimum."""
        import onnxruntime  # noqa: F401
        import torch
        from optimum.onnxruntime import modeling_diffusion  # noqa: F401

        torch.set_num_threads(self.tool["threads"])

    def load(self) -> None:
        """Makes its sessions."""
        import onnxruntime
        from optimum.onnxruntime import modeling_diffusion

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.tool["threads"]
        kind = self.pipeline_class(modeling_diffusion, "ORT")
        # Without guidance its binding writes over the latents that PNDM and DDIM keep.
        binding = None if self.drawing["guidance"] > 1 else False
        self.pipeline = kind.from_pretrained(
            self.tool["folder"], session_options=options, use_io_binding=binding
        )
        self.instrument()


def export(model: str, folder: str) -> None:
    """Exports as `optimum-cli export onnx` does."""
    from optimum.exporters.onnx import main_export

    main_export(model, folder, task="text-to-image", do_validation=False)


if __name__ == "__main__":
    sys.exit(main(OptimumOnnx, export))
