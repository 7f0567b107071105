"""Memory, copies, graphs and marks; and that nothing is left, whatever fails."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from kdexport.core.errors import ProviderError, RunError
from kdexport.runtimes.tensorrt.buffers import Buffer, Workspace
from kdexport.runtimes.tensorrt.device import CudaDevice
from kdexport.runtimes.tensorrt.libraries import Cuda
from kdexport.runtimes.tensorrt.tensor import Tensor


@pytest.fixture
def fake(fake_cuda):
    return fake_cuda.FakeCuda()


@pytest.fixture
def device(fake):
    with CudaDevice(bindings(fake), 0, (8, 9)) as opened:
        yield opened
    assert fake.left() == {}


def bindings(fake):
    return Cuda(fake.runtime, fake.driver, fake.nvrtc)


def test_up_and_down_again(device):
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    with Workspace(device) as memory:
        first, second = (memory.tensor(name, "int64", (2, 3)) for name in "ab")
        device.upload(first, array[::-1])
        device.copy(second, first)
        np.testing.assert_array_equal(device.download(second), array[::-1])
        np.testing.assert_array_equal(device.download(second.rows(1, 2)), array[:1])
        device.fill(second, 0)
        assert not device.download(second.reshaped(6)).any()
        assert device.download(memory.tensor("c", "float32", ())).shape == ()


def test_what_does_not_fit(device):
    with Workspace(device) as memory:
        tensor = memory.tensor("a", "float32", (4,))
        with pytest.raises(RunError, match="12 bytes of float32 does not fit a tensor of 16 bytes"):
            device.upload(tensor, np.zeros(3, np.float32))
        with pytest.raises(RunError, match="of int32 does not fit"):
            device.upload(tensor, np.zeros(4, np.int32))
        with pytest.raises(RunError, match="8 bytes of float32 cannot be copied to 16 bytes"):
            device.copy(tensor, tensor.rows(0, 2))
        with pytest.raises(RunError, match=r"shape \(4,\) cannot take the shape \(3,\)"):
            tensor.reshaped(3)


def test_buffers_are_of_one_size(device, fake):
    buffer = Buffer(device, 100)
    assert buffer.tensor("float32", (25,)).address == buffer.address
    with pytest.raises(RunError, match="104 bytes does not fit into 100 bytes"):
        buffer.tensor("float32", (26,))
    buffer.close()
    buffer.close()
    with pytest.raises(RunError, match="used after it was freed"):
        buffer.tensor("float32", (1,))


def test_a_workspace_replaces_what_is_too_small(device, fake):
    memory = Workspace(device)
    first = memory.tensor("a", "float32", (8,))
    assert memory.tensor("a", "float16", (2, 8)).address == first.address
    other = memory.tensor("b", "float32", (8,))
    assert other.address != first.address
    memory.tensor("a", "float32", (800,))
    assert len(fake.live["device"]) == 2
    assert memory.tensor("b", "float32", (8,)) == other
    memory.close()
    assert not fake.live["device"]


def test_staging_is_read_before_it_is_written_again(device, fake):
    with Workspace(device) as memory:
        target = memory.tensor("a", "float32", (2, 4))
        staged = memory.staging((2, 4))
        staged[...] = 1
        device.upload(target, staged)
        # Nothing was copied yet: the same memory must not be handed out before that.
        again = memory.staging((4,))
        again[...] = 2
        np.testing.assert_array_equal(device.download(target), np.ones((2, 4), np.float32))
        assert again.ctypes.data == staged.ctypes.data
        assert memory.staging((9,)).shape == (9,)
        assert len(fake.live["host"]) == 1


def test_what_goes_up_is_kept_until_it_was_read(device):
    with Workspace(device) as memory:
        target, array = memory.tensor("a", "float32", (4,)), np.ones(4, np.float32)
        kept = weakref.ref(array)
        device.upload(target, array)
        del array
        assert kept() is not None
        np.testing.assert_array_equal(device.download(target), np.ones(4))
        assert kept() is None


def test_a_graph_does_the_same_again(device, fake):
    with Workspace(device) as memory:
        a, b = (memory.tensor(name, "float32", (3,)) for name in "ab")
        device.upload(a, np.ones(3, np.float32))
        device.fill(b, 0)
        graph = device.capture(lambda: device.copy(b, a))
        assert not device.download(b).any()
        device.replay(graph)
        assert device.download(b).all()
        device.upload(a, np.full(3, 5, np.float32))
        device.replay(graph)
        np.testing.assert_array_equal(device.download(b), [5, 5, 5])
        device.forget(graph)
        device.forget(graph)
        assert not fake.live["exec"]
        assert not fake.live["graph"]


def test_work_that_cannot_be_captured(device, fake, fake_cuda):
    with pytest.raises(RunError, match=r"take 0 MB \(cudaErrorStreamCaptureUnsupported\)"):
        device.capture(lambda: device.allocate(16))
    assert fake.recording is None
    with pytest.raises(ZeroDivisionError):
        device.capture(lambda: 1 / 0)
    assert fake.recording is None
    fake.fail["cudaGraphInstantiate"] = fake_cuda.Code(1, "cudaErrorInvalidValue")
    with pytest.raises(RunError, match=r"prepare a graph \(cudaErrorInvalidValue\)"):
        device.capture(lambda: None)
    assert not fake.live["graph"]


def test_marks_wait_for_what_came_before(device, fake):
    with Workspace(device) as memory:
        target = memory.tensor("a", "int32", (1,))
        device.fill(target, 1)
        mark = device.mark()
        device.fill(target, 2)
        assert len(fake.queue) == 3
        device.wait(mark)
        assert len(fake.queue) == 1
        device.wait(mark)
        assert device.download(target)[0] == 0x02020202


def test_closing_frees_what_owners_left(fake):
    device = CudaDevice(bindings(fake), 0, (8, 9))
    device.allocate(100)
    device.pinned(100)
    device.mark()
    device.capture(lambda: None)
    assert len(fake.left()) == 6
    device.close()
    device.close()
    assert fake.left() == {}
    for use in (lambda: device.allocate(1), lambda: device.pinned(1)):
        with pytest.raises(RunError, match="given back; load the bundle again"):
            use()
    with pytest.raises(RunError, match="given back"):
        device.launch("guide", 1, ())
    # Owners that come late do no harm.
    device.free(5)
    device.unpin(5)
    device.forget(5)
    device.wait(5)


STARTING = [
    *("cudaSetDevice", "cudaStreamCreateWithFlags", "nvrtcVersion"),
    *("nvrtcGetCUBINSize", "cuModuleLoadData", "cuModuleGetFunction"),
]


@pytest.mark.parametrize("name", STARTING)
def test_a_device_that_does_not_start_leaves_nothing(fake, fake_cuda, name):
    fake.fail[name] = fake_cuda.Code(999, "cudaErrorUnknown")
    with pytest.raises(RunError, match=r"CUDA failed to .* \(cudaErrorUnknown\)"):
        CudaDevice(bindings(fake), 0, (8, 9))
    assert fake.left() == {}


def test_memory_that_is_not_there(device, fake, fake_cuda):
    fake.fail["cudaMalloc"] = fake_cuda.Code(2, "cudaErrorMemoryAllocation")
    with pytest.raises(RunError, match=r"take 5 MB \(cudaErrorMemoryAllocation\); free memory"):
        Workspace(device).tensor("a", "float32", (1250000,))


def test_an_error_while_all_is_freed_frees_the_rest(fake, fake_cuda):
    device = CudaDevice(bindings(fake), 0, (8, 9))
    device.allocate(100)
    device.mark()
    fake.fail["cudaStreamSynchronize"] = fake_cuda.Code(719, "cudaErrorLaunchFailure")
    fake.queue.clear()
    with pytest.raises(RunError, match="cudaErrorLaunchFailure"):
        device.close()
    assert fake.left() == {}


def test_a_library_that_is_missing(fake):
    def missing(*_):
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    fake.driver.cuModuleLoadData = missing
    with pytest.raises(ProviderError, match=r"load its kernels \(Failed to dlopen libcuda.so.1\)"):
        CudaDevice(bindings(fake), 0, (8, 9))
    assert fake.left() == {}


def test_the_bindings_themselves(fake):
    """Where CUDA's bindings are installed: they have all that the stand-in has."""
    for module in ("runtime", "driver", "nvrtc"):
        real = pytest.importorskip(f"cuda.bindings.{module}")
        for name, value in vars(getattr(fake, module)).items():
            assert hasattr(real, name)
            if isinstance(value, int):
                assert getattr(real, name) == value
            elif not callable(value):
                assert all(hasattr(getattr(real, name), each) for each in vars(value))


def test_a_tensor_knows_its_size():
    tensor = Tensor(1024, "float16", (3, 4, 5))
    assert (tensor.size, tensor.nbytes) == (60, 120)
    assert tensor.rows(1, 3) == Tensor(1024 + 40, "float16", (2, 4, 5))
    assert Tensor(0, "float32", ()).nbytes == 4
