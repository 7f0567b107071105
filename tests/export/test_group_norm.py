import numpy as np
import onnxruntime as ort
import pytest
import torch
from kdexport.export.group_norm import TwoStageGroupNorm, use_two_stage_norms
from torch import nn


@pytest.mark.parametrize("shape", [(2, 12, 5, 7), (1, 12, 33), (3, 12, 1, 1)])
def test_equals_torch(shape):
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 12, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    tensor = 3 * torch.randn(shape) + 2
    expected = norm(tensor)
    use_two_stage_norms(norm)
    assert type(norm) is TwoStageGroupNorm
    torch.testing.assert_close(norm(tensor), expected)


def test_half_precision_is_left_to_the_kernels():
    module = nn.Sequential(nn.GroupNorm(2, 4).half(), nn.GroupNorm(2, 4, affine=False))
    use_two_stage_norms(module)
    assert [type(layer) for layer in module] == [nn.GroupNorm, nn.GroupNorm]


def test_stays_exact_over_a_large_image(tmp_path):
    """What it is for: ONNX Runtime's own kernel loses two digits here."""
    torch.manual_seed(0)
    tensor = 2 * torch.randn(1, 8, 512, 512) + 1.5
    exact = nn.functional.group_norm(tensor.double(), 2).numpy()
    errors = {}
    for kind in (nn.GroupNorm, TwoStageGroupNorm):
        path = tmp_path / f"{kind.__name__}.onnx"
        torch.onnx.export(kind(2, 8).eval(), (tensor,), path, dynamo=True, verbose=False)
        result = ort.InferenceSession(path).run(None, {"input": tensor.numpy()})[0]
        errors[kind] = np.linalg.norm(result - exact) / np.linalg.norm(exact)
    assert errors[TwoStageGroupNorm] < 1e-6
    assert errors[TwoStageGroupNorm] < errors[nn.GroupNorm] / 5
