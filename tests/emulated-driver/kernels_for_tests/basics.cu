// Kernels that a test of the emulated driver launches: each shows one thing that a GPU does, or one mistake.
#include "emulated.hpp"

KERNEL(test_scale, float* y, float factor, int n) {
    int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] *= factor;
}

// Reverses a block through shared memory; without the barrier the later half reads what is not written yet.
KERNEL(test_reverse, const float* x, float* y, int with_barrier) {
    __shared__ float tile[256];
    tile[threadIdx.x] = x[threadIdx.x];
    if (with_barrier) __syncthreads();
    y[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
