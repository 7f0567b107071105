"""The arithmetic of the loop in CUDA C++: three kernels, compiled on the machine by NVRTC.

All of it is float32 in the order of `core.sampler.SamplerTable.row` and `runtimes/denoise.py`; the
sources are compiled without fused multiply-add, so that a sum is rounded as NumPy rounds it.
Float16 is converted with instructions of PTX, since NVRTC finds no headers.

Written without a GPU: NVRTC compiles this for every architecture that it knows, and the tests run
the kernels on the CPU as C++ (`FLOATS` replaced), but no GPU ever executed them.
"""

from __future__ import annotations

# Reads and writes a number of an array that is float32 or, where `half` is not 0, float16.
FLOATS = r"""
__device__ float read(const void* data, int half, long long index) {
    if (!half) return static_cast<const float*>(data)[index];
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<const unsigned short*>(data)[index]));
    return value;
}

__device__ void write(void* data, int half, long long index, float value) {
    if (!half) {
        static_cast<float*>(data)[index] = value;
        return;
    }
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    static_cast<unsigned short*>(data)[index] = bits;
}
"""

# `failed` holds the least `check` whose numbers were not finite.
KERNELS = r"""
#define EACH(index, count)                                                       \
    for (long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;     \
         index < (count); index += gridDim.x * (long long)blockDim.x)

__device__ float checked(float value, int* failed, int check) {
    if (!(fabsf(value) <= 3.402823466e+38f)) atomicMin(failed, check);
    return value;
}

// A row of the sampler's table over slots of `count` numbers, then what follows it, `copies` times.
extern "C" __global__ void combine(void* target, int half, int copies, long long count,
                                   const float* history, const int* slots, const float* weights,
                                   int terms, float scale, float factor, float shift) {
    EACH(i, count) {
        float total = weights[0] * history[slots[0] * count + i];
        for (int term = 1; term < terms; ++term)
            total = total + weights[term] * history[slots[term] * count + i];
        total = total / scale / factor + shift;
        for (int copy = 0; copy < copies; ++copy) write(target, half, copy * count + i, total);
    }
}

// Classifier-free guidance: the first `count` numbers are the negative ones.
extern "C" __global__ void guide(float* target, const void* raw, int half, long long count,
                                 float guidance, int* failed, int check) {
    EACH(i, count) {
        float negative = checked(read(raw, half, i), failed, check);
        float positive = checked(read(raw, half, count + i), failed, check);
        target[i] = negative + guidance * (positive - negative);
    }
}

// Copies `rows` x `columns` into the columns of a wider array from `first` on; null only checks.
extern "C" __global__ void place(void* target, int target_half, long long width, long long first,
                                 const void* source, int source_half, long long rows,
                                 long long columns, int* failed, int check) {
    EACH(i, rows * columns) {
        float value = checked(read(source, source_half, i), failed, check);
        if (target) write(target, target_half, i / columns * width + first + i % columns, value);
    }
}
"""

SOURCE = FLOATS + KERNELS

# The C types of the arguments, in order: p an address, i int, q long long, f float.
SIGNATURES = {
    "combine": "piiqpppifff",
    "guide": "ppiqfpi",
    "place": "piqqpiqqpi",
}
