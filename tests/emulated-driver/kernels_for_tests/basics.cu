// Kernels that tests of the emulated driver launch: each shows one thing that a GPU does, or one mistake.
#include "emulated.hpp"

KERNEL(test_scale, float* y, float factor, int n) {
    int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] *= factor;
}

struct Shape {
    int64_t rows, columns;
    float bias[3];
    char letter;
};
// Of a struct by value among other parameters.
KERNEL(test_by_value, short before, Shape shape, double after, double* y) {
    const double values[] = {double(before),         double(shape.rows),    double(shape.columns), shape.bias[0],
                             shape.bias[1],          shape.bias[2],         double(shape.letter),  after};
    for (int i = 0; i < 8; ++i) y[i] = values[i];
}

KERNEL(test_no_parameters) {}

// Where each thread is, for grids and blocks of three dimensions.
KERNEL(test_indices, uint4* y) {
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    y[block * threads + thread] = make_uint4(threadIdx.x, threadIdx.y, threadIdx.z, block);
}

EMULATED_KERNEL(1024, test_large_block, int* y) { y[threadIdx.x] = int(threadIdx.x); }

KERNEL(test_count, unsigned* bins, int bin_count, int n) {
    int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) atomicAdd(&bins[i % bin_count], 1u);
}

KERNEL(test_write_at, float* y, long long at) { y[at] = 1.0f; }

KERNEL(test_read_vector, const float* x, float* y, int at) {
    float4 v = *reinterpret_cast<const float4*>(x + at);
    y[0] = v.x + v.y + v.z + v.w;
}

KERNEL(test_divide, int* y, int by) { y[0] = y[0] / by; }

__device__ __attribute__((noinline)) int descend(volatile int* y, int depth) {
    volatile int here[256];
    here[depth % 256] = depth;
    return depth == 0 ? y[0] : descend(y, depth - 1) + here[depth % 256];
}
KERNEL(test_deep, int* y) { y[0] = descend(y, 1000); }
