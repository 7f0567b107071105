"""Whether there is a GPU, and what it is."""

from __future__ import annotations

import ctypes
import sys

import pytest
from kdexport.core.errors import DependencyError, OptionError, ProviderError, RunError
from kdexport.runtimes.tensorrt import machine
from kdexport.runtimes.tensorrt.libraries import load_cuda, tensorrt_library
from kdexport.runtimes.tensorrt.machine import Provider, engines_here, gpu_present, read_machine


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("cuda", Provider(0, True)),
        ("cuda:3", Provider(3, True)),
        ("cuda-no-graphs", Provider(0, False)),
        ("cuda-no-graphs:12", Provider(12, False)),
    ],
)
def test_providers(text, provider):
    assert Provider.parse(text) == provider


@pytest.mark.parametrize("text", ["cpu", "cuda:", "cuda:-1", "cuda:a", "CUDA", "cuda-graphs", ""])
def test_providers_that_are_none(text):
    with pytest.raises(OptionError, match=r"no provider '.*'; choose cuda, cuda-no-graphs, or"):
        Provider.parse(text)


class Driver:
    """`libcuda`, as ctypes gives it."""

    def __init__(self, start, count, gpus):
        self.start, self.count, self.gpus = start, count, gpus

    def cuInit(self, flags):
        return self.start

    def cuDeviceGetCount(self, reference):
        ctypes.cast(reference, ctypes.POINTER(ctypes.c_int))[0] = self.gpus
        return self.count


@pytest.mark.parametrize(
    ("driver", "present"),
    [
        (Driver(0, 0, 1), True),
        (Driver(0, 0, 0), False),
        (Driver(100, 0, 1), False),
        (Driver(34, 0, 1), False),
        (Driver(0, 100, 1), False),
        (None, False),
    ],
)
def test_whether_there_is_a_gpu(monkeypatch, driver, present):
    names = []

    def load(name):
        names.append(name)
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(machine.ctypes, "CDLL", load)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert gpu_present() is present
    monkeypatch.setattr(machine.sys, "platform", "win32")
    assert gpu_present() is present
    assert names == ["libcuda.so.1", "nvcuda.dll"]


def test_a_driver_that_does_not_start(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: Driver(803, 0, 1))
    with pytest.raises(ProviderError, match=r"does not start \(its error code is 803\); mend"):
        gpu_present()


def test_what_the_machine_has(fake_cuda):
    cuda = fake_cuda.FakeCuda(gpus=2, capability=(12, 0), driver=13010)
    found = read_machine(cuda_of(cuda), 1, "1.7.1")
    assert (found.gpu, found.target) == ("NVIDIA GeForce RTX 4090", "sm_120")
    assert (found.driver, found.tensorrt, found.memory) == ("13.1", "1.7.1", 24 << 30)
    with pytest.raises(ProviderError, match="has 2 GPUs, so none with the number 2; choose one"):
        read_machine(cuda_of(cuda), 2, "1")
    with pytest.raises(ProviderError, match="has no NVIDIA driver, so it runs no TensorRT engine"):
        read_machine(cuda_of(fake_cuda.FakeCuda(driver=0)), 0, "1")
    cuda.fail["cudaGetDeviceCount"] = fake_cuda.Code(100, "cudaErrorNoDevice")
    with pytest.raises(RunError, match=r"failed to count the GPUs \(cudaErrorNoDevice\)"):
        read_machine(cuda_of(cuda), 0, "1")


def cuda_of(fake):
    from kdexport.runtimes.tensorrt.libraries import Cuda

    return Cuda(fake.runtime, fake.driver, fake.nvrtc)


def test_engines_of_this_machine(gpu, make_bundle):
    gpu()
    manifest = make_bundle().manifest
    assert engines_here(manifest, "rtx", "cuda") == manifest.engines
    gpu(capability=(9, 0))
    with pytest.raises(ProviderError, match=r"are for sm_89, but this machine's .* is sm_90"):
        engines_here(manifest, "rtx", "cuda")
    gpu(version="1.6.0.1")
    with pytest.raises(ProviderError, match=r"built with TensorRT for RTX 1\.7\.1\.116, but 1\.6"):
        engines_here(manifest, "rtx", "cuda")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "rtx",
            r"needs TensorRT for RTX, .*\(.*\); install it with `pip install kdexport",
        ),
        ("native", r"needs TensorRT, .*\(.*\); install NVIDIA's `tensorrt` package, .*JetPack"),
    ],
)
def test_tensorrt_that_is_not_installed(monkeypatch, kind, message):
    monkeypatch.setitem(sys.modules, {"rtx": "tensorrt_rtx", "native": "tensorrt"}[kind], None)
    with pytest.raises(DependencyError, match=message):
        tensorrt_library(kind)


def test_tensorrt_that_lacks_a_library(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(DependencyError, match=r"TensorRT, .*\(libnvinfer.so.10: no such file\)"):
        tensorrt_library("native")


def test_bindings_that_are_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(
        DependencyError, match=r"Python bindings .* `pip install kdexport\[tensorrt\]`, or"
    ):
        load_cuda()


def test_errors_of_cuda_keep_their_names(fake_cuda, monkeypatch):
    fake = fake_cuda.FakeCuda()
    fake.install(monkeypatch)
    cuda = load_cuda()
    code = fake_cuda.Code(2, "cudaErrorMemoryAllocation")
    with pytest.raises(RunError, match=r"take it \(cudaErrorMemoryAllocation\); free memory on"):
        cuda.call(lambda: (code, None), doing="take it")
    code = fake_cuda.Code(719, "cudaErrorLaunchFailure")
    with pytest.raises(RunError, match=r"do it \(cudaErrorLaunchFailure\); look the error up"):
        cuda.call(lambda: (code,), doing="do it")

    def missing():
        raise RuntimeError("Failed to dlopen libnvrtc.so.12\nand more")

    with pytest.raises(ProviderError, match=r"do it \(Failed to dlopen libnvrtc.so.12\); install"):
        cuda.call(missing, doing="do it")
    good = fake_cuda.SUCCESS
    assert cuda.call(lambda: (good,), doing="") is None
    assert cuda.call(lambda: (good, 5), doing="") == 5
    assert cuda.call(lambda: (good, 5, 6), doing="") == (5, 6)
