// What every kernel uses: how kernels are declared, the bf16 type, vector loads, sums over warps and blocks.
//
// Kernels have 256 threads a block at the most, no float atomics (sums have one order: the same bits every time), no
// static or anonymous device symbols (the PTX would depend on the folder it was compiled in), and end in the name of
// the element type of their images: _f32 or _bf16. Parameters, statistics and gradients of parameters are float.
// Compiled for the CPU they run under the emulated driver of the tests.
#pragma once

#ifdef OCHE_EMULATED
#include "emulated.hpp"
#else
#include <stdint.h>
#define KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256) name(__VA_ARGS__)
#define DYNAMIC_SHARED(T, name)                              \
    extern __shared__ __align__(16) unsigned char name##_[]; \
    T* name = reinterpret_cast<T*>(name##_)

// d += a b on the tensor cores: 16 x 8 += (16 x 16)(16 x 8), each lane holding the parts that the instruction's
// documentation names (tests/emulated-driver/emulator/mma.hpp does the same).
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#define DEVICE __device__ __forceinline__

// Upper half of a float.
struct bf16 {
    uint16_t bits;
};

DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

// To the nearest, ties to even; NaN stays NaN.
DEVICE void narrow(float x, float& to) { to = x; }
DEVICE void narrow(float x, bf16& to) {
    unsigned u = __float_as_uint(x);
    to.bits = (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)((u >> 16) | 0x40u)
                                              : (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

template <class T>
DEVICE float load(const T* from) {
    return widen(*from);
}
template <class T>
DEVICE void store(T* to, float x) {
    narrow(x, *to);
}
// Adds in float and rounds once.
template <class T>
DEVICE void put(T* to, float x, int accumulate) {
    narrow(accumulate ? widen(*to) + x : x, *to);
}

struct vec4 {
    float at[4];
};
struct __align__(8) bf16x4 {
    bf16 at[4];
};

// Four neighbours, the first of which is aligned to all four.
DEVICE vec4 load4(const float* from) {
    float4 v = *reinterpret_cast<const float4*>(from);
    return {{v.x, v.y, v.z, v.w}};
}
DEVICE vec4 load4(const bf16* from) {
    bf16x4 v = *reinterpret_cast<const bf16x4*>(from);
    return {{widen(v.at[0]), widen(v.at[1]), widen(v.at[2]), widen(v.at[3])}};
}
DEVICE void store4(float* to, vec4 v) {
    *reinterpret_cast<float4*>(to) = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
}
DEVICE void store4(bf16* to, vec4 v) {
    bf16x4 out;
    for (int i = 0; i < 4; ++i) narrow(v.at[i], out.at[i]);
    *reinterpret_cast<bf16x4*>(to) = out;
}

// The sum over a warp, in every lane.
template <class T>
DEVICE T warp_sum(T x) {
    for (int other = 16; other > 0; other >>= 1) x += __shfl_xor_sync(0xffffffffu, x, other);
    return x;
}

// The sum over a block of whole warps, in every thread; `scratch` holds 32 values, and may be used again after.
template <class T>
DEVICE T block_sum(T x, T* scratch) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    T sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += scratch[warp];
    return sum;
}

// This thread's element of a one-dimensional grid.
DEVICE int flat_index() { return (int)(blockIdx.x * blockDim.x + threadIdx.x); }
