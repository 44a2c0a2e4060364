// The total of partial sums. Twin: src/ops/cuda/parts.rs.
//
//   y[i] (+)= sum over p of parts[p, i]        parts: (P, n) float; in double precision, in one order
//
// Bound by memory: 4 P n bytes. A block has 8 neighbouring sums, each of which 32 threads share.
#include "common.cuh"

KERNEL(sum_parts_f32, const float* parts, float* y, int count, int n, int accumulate) {
    __shared__ double scratch[256];
    int of = (int)threadIdx.x % 8, lane = (int)threadIdx.x / 8, i = (int)blockIdx.x * 8 + of;
    double sum = 0;
    if (i < n)
        for (int p = lane; p < count; p += 32) sum += (double)parts[(size_t)p * n + i];
    scratch[threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0 || i >= n) return;
    for (int other = 1; other < 32; ++other) sum += scratch[other * 8 + of];
    put(y + i, (float)sum, accumulate);
}
