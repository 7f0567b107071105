"""Pickled weights: what torch reads, and nothing that runs code."""

import os

import ml_dtypes
import numpy as np
import pytest
import torch
from kdexport.core.errors import WeightsError
from kdexport.export.pickles import read_pickle


def saved(path, data, **options):
    torch.save(data, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_every_type_and_layout(tmp_path, zipped):
    torch.manual_seed(0)
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    stored = {str(dtype): (4 * torch.randn(3, 5)).to(dtype) for dtype in types}
    whole = torch.randn(6, 7)
    # Non-contiguous tensors, as in segmind/tiny-sd, and tensors that share their numbers.
    stored |= {"turned": whole.T, "cut": whole[1:4, ::2], "scalar": torch.tensor(2.5)}
    file = saved(tmp_path / "a.bin", stored, _use_new_zipfile_serialization=zipped)
    read = read_pickle(file)
    assert not read["turned"].tensor.is_contiguous()
    for name, tensor in stored.items():
        array = read[name].read()
        assert array.shape == read[name].shape == tuple(tensor.shape)
        assert array.dtype == read[name].dtype
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array.astype(np.float64), tensor.double().numpy())
    assert read["torch.bfloat16"].dtype == ml_dtypes.bfloat16


def test_a_training_checkpoint(tmp_path):
    data = {"state_dict": {"a": torch.ones(2)}, "global_step": 3, "epoch": 1}
    assert list(read_pickle(saved(tmp_path / "a.ckpt", data))) == ["a"]


class Greeting:
    """What a hostile file does: it makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_code_is_not_run(tmp_path, zipped):
    data = {"a": torch.ones(2), "b": Greeting(str(tmp_path / "made"))}
    file = saved(tmp_path / "a.bin", data, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"it asks for \w+\.mkdir\), and opening it could run"):
        read_pickle(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([torch.ones(1)], "holds no tensors by name"),
        ({}, "holds no tensors by name"),
        (torch.ones(1), "holds no tensors by name"),
        ({"a": torch.ones(1), "step": 3}, r"no plain tensors \(step\)"),
        ({"a": torch.eye(2).to_sparse()}, r"no plain tensors \(a\)"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, r"no plain tensors \(a\)"),
    ],
)
def test_what_is_no_state_dict(tmp_path, data, message):
    with pytest.raises(WeightsError, match=message):
        read_pickle(saved(tmp_path / "a.bin", data))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, -10])
def test_a_damaged_file(tmp_path, zipped, keep):
    file = saved(tmp_path / "a.bin", {"a": torch.ones(999)}, _use_new_zipfile_serialization=zipped)
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match="is no complete state dict of"):
        read_pickle(file)


def test_the_advice_never_is_to_trust_the_file(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(WeightsError) as caught:
        read_pickle(file)
    assert "weights_only" not in str(caught.value)
