// Matrix products y (+)= A B, (m, k) x (k, n), of floats. Twin: src/ops/cuda/matmul.rs.
//
// Either factor may be stored transposed. 2 m k n operations on 4 (m k + k n + m n) bytes; the classifier,
// (64, 256) x (256, 10), has 0.3 million of them: all that counts is that many warps share them. Few results of long sums
// take a warp each; else a block has a tile of T x T results, R x R a thread, through shared memory. Sums run in the order
// of k, or over the lanes of a warp: in one order either way.
#include "common.cuh"

// Sizes and strides: A at i, p lies at i ai + p ap, B at p, j at p bp + j bj.
struct Product {
    int m, k, n, ai, ap, bp, bj;
};

// Numbers of the inner extent that are in shared memory at once.
#define DEPTH 16

// tile[p][i] = factor at (first + i, from + p), 0 outside; i steps by si, p by sp. Neighbouring threads read along the
// extent that is contiguous.
template <int T>
DEVICE void fill(float (*tile)[T + 1], const float* factor, int first, int size, int si, int from, int k, int sp) {
    auto copy = [&](int i, int p) {
        bool inside = first + i < size && from + p < k;
        tile[p][i] = inside ? factor[(size_t)(first + i) * (size_t)si + (size_t)(from + p) * (size_t)sp] : 0.f;
    };
    int t = (int)threadIdx.x;
    if (sp == 1) {
#pragma unroll
        for (int u = 0; u < T / 16; ++u) copy(t / DEPTH + 16 * u, t % DEPTH);
    } else {
#pragma unroll
        for (int u = 0; u < T / 16; ++u) copy(t % T, t / T + 256 / T * u);
    }
}

template <int T>
DEVICE void tile_product(const float* a, const float* b, float* y, const Product& s, int accumulate) {
    constexpr int R = T / 16;
    __shared__ float left[DEPTH][T + 1], right[DEPTH][T + 1];
    int row = (int)threadIdx.x / 16, column = (int)threadIdx.x % 16;
    int i0 = (int)blockIdx.y * T, j0 = (int)blockIdx.x * T;
    float sums[R][R] = {};
    for (int from = 0; from < s.k; from += DEPTH) {
        __syncthreads();
        fill<T>(left, a, i0, s.m, s.ai, from, s.k, s.ap);
        fill<T>(right, b, j0, s.n, s.bj, from, s.k, s.bp);
        __syncthreads();
#pragma unroll
        for (int p = 0; p < DEPTH; ++p)
#pragma unroll
            for (int u = 0; u < R; ++u)
#pragma unroll
                for (int v = 0; v < R; ++v)
                    sums[u][v] = fmaf(left[p][row + 16 * u], right[p][column + 16 * v], sums[u][v]);
    }
#pragma unroll
    for (int u = 0; u < R; ++u)
#pragma unroll
        for (int v = 0; v < R; ++v) {
            int i = i0 + row + 16 * u, j = j0 + column + 16 * v;
            if (i < s.m && j < s.n) put(y + (size_t)i * (size_t)s.n + (size_t)j, sums[u][v], accumulate);
        }
}

KERNEL(matmul_large_f32, const float* a, const float* b, float* y, Product s, int accumulate) {
    tile_product<64>(a, b, y, s, accumulate);
}
KERNEL(matmul_f32, const float* a, const float* b, float* y, Product s, int accumulate) {
    tile_product<32>(a, b, y, s, accumulate);
}

// A warp a result.
KERNEL(matmul_warp_f32, const float* a, const float* b, float* y, Product s, int accumulate) {
    int result = flat_index() / 32, lane = (int)threadIdx.x % 32;
    if (result >= s.m * s.n) return;
    const float* left = a + (size_t)(result / s.n) * (size_t)s.ai;
    const float* right = b + (size_t)(result % s.n) * (size_t)s.bj;
    float sum = 0;
#pragma unroll 4
    for (int p = lane; p < s.k; p += 32)
        sum = fmaf(left[(size_t)p * (size_t)s.ap], right[(size_t)p * (size_t)s.bp], sum);
    sum = warp_sum(sum);
    if (lane == 0) put(y + result, sum, accumulate);
}
