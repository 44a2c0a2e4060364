// Kernels whose threads work together, and those in which they fail to.
#include "emulated.hpp"

// Reverses a block through shared memory; without the barrier a thread may read what is not written yet.
KERNEL(test_reverse, const float* x, float* y, int with_barrier) {
    __shared__ float tile[256];
    tile[threadIdx.x] = x[threadIdx.x];
    if (with_barrier) __syncthreads();
    y[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

// The sum of n numbers in each block: by shuffles in a warp, then by the first warp over all of them.
KERNEL(test_sum, const double* x, double* y, int n) {
    __shared__ double of_warp[32];
    double sum = 0;
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) sum += x[i];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(0xffffffffu, sum, by);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    sum = threadIdx.x < blockDim.x / 32 ? of_warp[threadIdx.x] : 0;
    for (int with = 16; with > 0; with /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, with);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

// Every kind of shuffle, in segments of 8 lanes: what each lane gets.
KERNEL(test_shuffles, int* y) {
    int lane = int(threadIdx.x);
    y[0 * 32 + lane] = __shfl_sync(0xffffffffu, lane, 3, 8);
    y[1 * 32 + lane] = __shfl_up_sync(0xffffffffu, lane, 2, 8);
    y[2 * 32 + lane] = __shfl_down_sync(0xffffffffu, lane, 2, 8);
    y[3 * 32 + lane] = __shfl_xor_sync(0xffffffffu, lane, 5, 8);
    y[4 * 32 + lane] = __shfl_sync(0xffffffffu, lane, 35);
}

KERNEL(test_votes, unsigned* y) {
    unsigned lane = threadIdx.x;
    unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    y[0 * 32 + lane] = __ballot_sync(0xffffffffu, lane % 3 == 0);
    y[1 * 32 + lane] = __ballot_sync(half, lane % 2);
    y[2 * 32 + lane] = unsigned(__any_sync(half, lane == 20));
    y[3 * 32 + lane] = unsigned(__all_sync(half, lane >= 16));
    y[4 * 32 + lane] = unsigned(__popc(__ballot_sync(0xffffffffu, lane < 7)));
}

// The last warp is not full, and lanes leave before the shuffle: what is read from those that are not there is NaN.
KERNEL(test_absent_lanes, float* y) {
    float x = float(threadIdx.x);
    if (threadIdx.x % 32 == 5) return;
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x, 1);
}

// Reads shared memory before anything is written to it.
KERNEL(test_unwritten_shared, float* y) {
    __shared__ float in_kernel[64];
    DYNAMIC_SHARED(float, in_launch);
    y[threadIdx.x] = in_kernel[threadIdx.x];
    y[blockDim.x + threadIdx.x] = in_launch[threadIdx.x];
    __syncthreads();
    in_kernel[threadIdx.x] = in_launch[threadIdx.x] = 1.0f;
}

KERNEL(test_write_dynamic, float* y, int at) {
    DYNAMIC_SHARED(float, tile);
    tile[at] = 2.0f;
    y[0] = tile[at];
}

KERNEL(test_leave_shared_array, float* y, int at) {
    __shared__ float tile[8];
    tile[at] = 2.0f;
    y[0] = tile[at];
}

// ---- Mistakes -------------------------------------------------------------------------------------------------------

KERNEL(test_barrier_after_exit, int* y) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

// Half of the warp is at the barrier of the block, and the other half waits for it in a shuffle.
KERNEL(test_barrier_against_shuffle, int* y) {
    if (threadIdx.x % 32 < 16) {
        __syncthreads();
    } else {
        y[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
    }
}

KERNEL(test_masks_differ, int* y) {
    unsigned mask = threadIdx.x % 2 ? 0xffffffffu : 0x0fffffffu;
    y[threadIdx.x] = __shfl_sync(mask, 1, 0);
}

KERNEL(test_not_in_own_mask, int* y) { y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0); }

// ---- Tensor cores ---------------------------------------------------------------------------------------------------

// C = A B with A of m x k and B of n x k, both bf16; a warp for each 16 x 8 tile of C.
KERNEL(test_multiply, const uint16_t* a, const uint16_t* b, float* c, int n, int k) {
    const int row = int(threadIdx.x) / 4, pair = int(threadIdx.x) % 4 * 2;
    const int first_row = int(blockIdx.y) * 16, first_column = int(blockIdx.x) * 8;
    auto two = [](const uint16_t* from) { return uint32_t(from[0]) | uint32_t(from[1]) << 16; };
    float d[4] = {0, 0, 0, 0};
    for (int i = pair; i < k; i += 16) {
        const uint16_t* upper = a + (first_row + row) * k + i;
        const uint16_t* lower = upper + 8 * k;
        const uint16_t* column = b + (first_column + row) * k + i;
        const uint32_t from_a[4] = {two(upper), two(lower), two(upper + 8), two(lower + 8)};
        const uint32_t from_b[2] = {two(column), two(column + 8)};
        mma_m16n8k16_bf16(d, from_a, from_b);
    }
    float* to = c + (first_row + row) * n + first_column + pair;
    to[0] = d[0];
    to[1] = d[1];
    to[8 * n] = d[2];
    to[8 * n + 1] = d[3];
}
