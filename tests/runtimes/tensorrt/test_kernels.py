"""The kernels' own source, run on the CPU as C++, against NumPy and the host's arithmetic."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.core.errors import ProviderError, RunError
from kdexport.core.sampler import SamplerTable
from kdexport.runtimes.tensorrt.compile import _TYPES, compile_kernels
from kdexport.runtimes.tensorrt.kernels import KERNELS, SIGNATURES, SOURCE
from kdexport.runtimes.tensorrt.libraries import Cuda, load_cuda

# A grid of one thread walks over everything; the compiler has float16 of its own.
AS_CPP = r"""
#include <cmath>
#include <cstring>
#define __device__ static
#define __global__
static struct { int x = 0; } blockIdx, threadIdx;
static struct { int x = 1; } blockDim, gridDim;
static void atomicMin(int* at, int value) { if (value < *at) *at = value; }

static float read(const void* data, int half, long long index) {
    if (!half) return static_cast<const float*>(data)[index];
    return static_cast<float>(static_cast<const _Float16*>(data)[index]);
}

static void write(void* data, int half, long long index, float value) {
    if (!half) static_cast<float*>(data)[index] = value;
    else static_cast<_Float16*>(data)[index] = static_cast<_Float16>(value);
}
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The kernels as functions."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "loop.cpp").write_text(AS_CPP + KERNELS, encoding="utf-8")
    options = ["-O2", "-ffp-contract=off", "-shared", "-fPIC", "-std=c++17", "-mf16c"]
    command = [compiler, *options, "-o", str(folder / "loop.so"), str(folder / "loop.cpp")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode and "-mf16c" in made.stderr:
        command.remove("-mf16c")
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode and "_Float16" in made.stderr:
        pytest.skip("the C++ compiler has no float16")
    assert not made.returncode, made.stderr
    library = ctypes.CDLL(str(folder / "loop.so"))
    functions = {}
    for name, signature in SIGNATURES.items():
        functions[name] = getattr(library, name)
        functions[name].argtypes = [_TYPES[letter] for letter in signature]
        functions[name].restype = None
    return functions


def at(array):
    return array.ctypes.data


class Memory:
    """Memory of the host, where the stand-in's kernels look arrays up."""

    def view(self, address, dtype, shape):
        count = int(np.prod(shape))
        memory = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)


def flag():
    return np.full(1, 0x7F7F7F7F, np.int32)


@given(
    seed=st.integers(0, 9999),
    count=st.integers(1, 40),
    terms=st.integers(1, 6),
    copies=st.integers(1, 2),
    half=st.booleans(),
)
def test_combine(compiled, fake_cuda, seed, count, terms, copies, half):
    random = np.random.default_rng(seed)
    history = (random.standard_normal((8, count)) * 40).astype(np.float32)
    slots = np.array([0, *random.integers(1, 8, terms - 1)], np.int32)
    weights = (random.standard_normal(terms) * 15).astype(np.float32)
    targets = [np.zeros(copies * count, np.float16 if half else np.float32) for _ in range(2)]
    for function, target in zip(
        (compiled["combine"], NumPy(fake_cuda, "combine")), targets, strict=True
    ):
        function(
            at(target),
            half,
            copies,
            count,
            at(history),
            at(slots),
            at(weights),
            terms,
            1.3,
            0.18215,
            0.06,
        )
    np.testing.assert_array_equal(*targets)


class NumPy:
    """A kernel of the stand-in."""

    def __init__(self, fake_cuda, name):
        self.function = fake_cuda.KERNELS[name]

    def __call__(self, *arguments):
        self.function(Memory(), *arguments)


def test_combine_is_a_row_of_the_table(compiled):
    """The same rounding as `SamplerTable.row`, bit for bit."""
    random = np.random.default_rng(5)
    arrays = (random.standard_normal((5, 64)) * 30).astype(np.float32)
    numbers = [float(number) for number in random.standard_normal(5) * 14.6]
    table = SamplerTable(
        timesteps=(1.0, 2.0),
        initial=(1.0, 1.0, numbers[0]),
        outputs=((), (1.0,), (numbers[1], numbers[2])),
        noise=((), (1.0,), (numbers[3], numbers[4])),
        draws=(1, 1),
        scale=(1.0, 1.0, 1.0),
    )
    row = table.row(2, arrays[0], list(arrays[1:3]), list(arrays[3:]))
    target, slots = np.zeros(64, np.float32), np.arange(5, dtype=np.int32)
    weights = np.array(numbers, np.float32)
    compiled["combine"](at(target), 0, 1, 64, at(arrays), at(slots), at(weights), 5, 1.0, 1.0, 0.0)
    np.testing.assert_array_equal(target, row)


@given(seed=st.integers(0, 9999), count=st.integers(1, 40), half=st.booleans())
def test_guide(compiled, fake_cuda, seed, count, half):
    random = np.random.default_rng(seed)
    raw = random.standard_normal(2 * count).astype(np.float16 if half else np.float32)
    targets, flags = [np.zeros(count, np.float32) for _ in range(2)], [flag(), flag()]
    for function, target, failed in zip(
        (compiled["guide"], NumPy(fake_cuda, "guide")), targets, flags, strict=True
    ):
        function(at(target), at(raw), half, count, 7.5, at(failed), 3)
        assert failed[0] == 0x7F7F7F7F
    np.testing.assert_array_equal(*targets)
    negative, positive = raw.astype(np.float32).reshape(2, count)
    np.testing.assert_array_equal(targets[0], negative + np.float32(7.5) * (positive - negative))


@given(
    seed=st.integers(0, 9999),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(0, 3), st.integers(0, 3)),
    half=st.booleans(),
    source_half=st.booleans(),
)
def test_place(compiled, fake_cuda, seed, sizes, half, source_half):
    rows, columns, before, after = sizes
    width = before + columns + after
    random = np.random.default_rng(seed)
    source = random.standard_normal((rows, columns)) * 9
    source = source.astype(np.float16 if source_half else np.float32)
    targets = [np.full((rows, width), 5, np.float16 if half else np.float32) for _ in range(2)]
    for function, target in zip(
        (compiled["place"], NumPy(fake_cuda, "place")), targets, strict=True
    ):
        failed = flag()
        function(
            at(target), half, width, before, at(source), source_half, rows, columns, at(failed), 0
        )
        assert failed[0] == 0x7F7F7F7F
    np.testing.assert_array_equal(*targets)
    assert (targets[0][:, :before] == 5).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("index", [0, 3, 7])
def test_what_is_not_finite_is_written_down(compiled, value, half, index):
    raw = np.zeros(8, np.float16 if half else np.float32)
    raw[index] = value
    target, failed = np.zeros(4, np.float32), flag()
    for number in (6, 4, 5):
        compiled["guide"](at(target), at(raw), half, 4, 2.0, at(failed), number)
    assert failed[0] == 4
    failed = flag()
    compiled["place"](0, 0, 8, 0, at(raw), half, 1, 8, at(failed), 2)
    assert failed[0] == 2


def test_large_numbers_are_finite(compiled):
    raw = np.full(2, np.finfo(np.float32).max, np.float32)
    failed = flag()
    compiled["place"](0, 0, 2, 0, at(raw), 0, 1, 2, at(failed), 0)
    assert failed[0] == 0x7F7F7F7F


def test_how_they_are_compiled(fake_cuda):
    fake = fake_cuda.FakeCuda()
    cuda = Cuda(fake.runtime, fake.driver, fake.nvrtc)
    code = compile_kernels(cuda, (8, 9))
    assert code.startswith(b"\x7fELF")
    assert code.endswith(SOURCE.encode())
    assert fake.options == ["--gpu-architecture=sm_89", "--std=c++17", "--fmad=false"]
    assert fake.left() == {}
    with pytest.raises(RunError, match=r"12.9 does not know sm_120, only sm_75, .*another version"):
        compile_kernels(cuda, (12, 0))
    fake.fail["nvrtcCompileProgram"] = fake_cuda.Code(6, "NVRTC_ERROR_COMPILATION")
    with pytest.raises(RunError, match=r"\(NVRTC_ERROR_COMPILATION\): line 1: wrong Please rep"):
        compile_kernels(cuda, (8, 9))
    assert fake.left() == {}


def test_nvrtc_itself():
    """Where CUDA's bindings and compiler are: every GPU that they know, without fused sums."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    cuda = load_cuda()
    try:
        known = cuda.call(nvrtc.nvrtcGetSupportedArchs, doing="list")
    except ProviderError as error:
        pytest.skip(str(error))
    for target in known:
        assert compile_kernels(cuda, (target // 10, target % 10)).startswith(b"\x7fELF")
    created = nvrtc.nvrtcCreateProgram(SOURCE.encode(), b"loop.cu", 0, [], [])
    program = cuda.call(lambda: created, doing="read")
    options = [b"--gpu-architecture=compute_89", b"--std=c++17", b"--fmad=false"]
    cuda.call(nvrtc.nvrtcCompileProgram, program, len(options), options, doing="compile")
    assembly = bytearray(cuda.call(nvrtc.nvrtcGetPTXSize, program, doing="measure"))
    cuda.call(nvrtc.nvrtcGetPTX, program, assembly, doing="read")
    cuda.call(nvrtc.nvrtcDestroyProgram, program, doing="free")
    assert b"mul" in assembly
    assert b"fma.rn" not in assembly
    assert b".ftz" not in assembly
