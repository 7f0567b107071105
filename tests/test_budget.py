"""What exports cost, whatever the clock says: operators, memory, bytes on disk.

What a change makes better is lowered here; what it makes worse it has to explain. Multiplications
of the models themselves are held in `export/test_cost.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
from kdexport.core.options import OnnxOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.onnx_bundle import export_onnx
from kdexport.export.prepare import prepare_export


@dataclass(frozen=True)
class Budget:
    """Of a model's narrow twin, which has the blocks of the model.

    Attributes:
        operators: Most operators of each component.
        attention: Attention layers of the U-Net, each a node.
        upsampling: Upsampling layers of U-Net and decoder, each with 4/9 of its multiplications.
    """

    operators: dict[str, int]
    attention: int
    upsampling: int


BUDGETS = {
    "bk-sdm-small": Budget({"text_encoder": 81, "unet": 1151, "vae_decoder": 779}, 18, 6),
    "koala-700m": Budget(
        {"text_encoder": 81, "text_encoder_2": 108, "unet": 1008, "vae_decoder": 779}, 24, 5
    ),
    "sdxs-512-dreamshaper": Budget({"text_encoder": 81, "unet": 829, "vae_decoder": 123}, 12, 5),
}
# The graph and the manifest beside the weights, in bytes of a component.
GRAPH_BYTES = 480_000
# Beside what importing takes, in bytes.
EXPORT_RSS = 250e6


@pytest.mark.parametrize("name", BUDGETS)
def test_graphs(narrow, tmp_path, name):
    prepared = prepare_export(load_checkpoint(str(narrow(name))), OnnxOptions())
    manifest = export_onnx(prepared, tmp_path, lambda what, share: None)
    counts = {each.role: sum(each.operators.values()) for each in manifest.components}
    budget = BUDGETS[name]
    assert counts.keys() == budget.operators.keys()
    over = {role: count for role, count in counts.items() if count > budget.operators[role]}
    assert over == {}
    unet, decoder = (manifest.component(role).operators for role in ("unet", "vae_decoder"))
    assert unet["com.microsoft.MultiHeadAttention"] == budget.attention
    assert unet["DepthToSpace"] + decoder["DepthToSpace"] == budget.upsampling
    for each in manifest.components:
        assert manifest.bytes_of(each) < 4 * each.parameters + GRAPH_BYTES


_EXPORT = """
import json, resource, sys
from pathlib import Path
from kdexport.core.options import OnnxOptions
from kdexport.export.load import load_checkpoint
from kdexport.export.onnx_bundle import export_onnx
from kdexport.export.prepare import prepare_export
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
prepared = prepare_export(load_checkpoint(sys.argv[1]), OnnxOptions())
export_onnx(prepared, Path(sys.argv[2]), lambda what, share: None)
print(json.dumps([before, peak()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
def test_memory(narrow, tmp_path):
    command = [sys.executable, "-c", _EXPORT, str(narrow("bk-sdm-small")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, peak = (1024 * kilobytes for kilobytes in json.loads(done.stdout.splitlines()[-1]))
    assert peak - before < EXPORT_RSS
