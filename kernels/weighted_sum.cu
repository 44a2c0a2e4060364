// The sum of images with weights from a matrix W, and its gradients. Twin: src/ops/cuda/weighted_sum.rs.
//
//   y = sum_k W[i_k] x_k;  dx_k = W[i_k] g;  dW[i_k] = <g, x_k>
//
// x_k, g, y: images of n elements; W: floats. Bound by memory: all inputs once for two operations an element of each.
// Of 8 candidates at (64, 32, 32, 16) that is 36 MiB in float, 11 us at 3.35 TB/s. The gradient reads g once for every 8
// images, mostly from the cache.
#include "common.cuh"

// Images and their places in W, `count` of them.
struct Terms {
    uint64_t x[64];
    int entry[64];
    int count, reserved;
};

// Elements i .. i + 3 of n, 0 beyond the end; `vectors` if i may be read as a vector.
template <class T>
DEVICE vec4 load_upto4(const T* x, int i, int n, int vectors) {
    if (vectors && i + 4 <= n) return load4(x + i);
    vec4 four;
#pragma unroll
    for (int k = 0; k < 4; ++k) four.at[k] = i + k < n ? load(x + i + k) : 0.f;
    return four;
}
template <class T>
DEVICE void put_upto4(T* y, int i, int n, vec4 four, int vectors, int accumulate) {
    if (vectors && i + 4 <= n) {
        vec4 old = accumulate ? load4(y + i) : vec4{};
#pragma unroll
        for (int k = 0; k < 4; ++k) four.at[k] += old.at[k];
        store4(y + i, four);
        return;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (i + k < n) put(y + i + k, four.at[k], accumulate);
}

// Images whose gradients one block computes, elements of them, and of a thread.
#define GROUP 8
#define SPAN 2048
#define QUADS (SPAN / 256 / 4)

// parts[k][b] = the sum of g x_k over elements b SPAN .. (b + 1) SPAN, for k = GROUP d .. GROUP (d + 1) in block (b, d).
template <class T>
DEVICE void weight_parts(const Terms& terms, const T* g, float* parts, int n, int vectors) {
    __shared__ float scratch[GROUP][8];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int first = (int)blockIdx.y * GROUP, start = (int)blockIdx.x * SPAN + 4 * (int)threadIdx.x;
    vec4 own[QUADS];
#pragma unroll
    for (int q = 0; q < QUADS; ++q) own[q] = load_upto4(g, start + q * 1024, n, vectors);
#pragma unroll 4
    for (int k = 0; k < GROUP; ++k) {
        float sum = 0;
        if (first + k < terms.count) {
            const T* x = reinterpret_cast<const T*>(terms.x[first + k]);
#pragma unroll
            for (int q = 0; q < QUADS; ++q) {
                vec4 four = load_upto4(x, start + q * 1024, n, vectors);
#pragma unroll
                for (int i = 0; i < 4; ++i) sum = fmaf(own[q].at[i], four.at[i], sum);
            }
        }
        sum = warp_sum(sum);
        if (lane == 0) scratch[k][warp] = sum;
    }
    __syncthreads();
    int k = (int)threadIdx.x;
    if (k >= GROUP || first + k >= terms.count) return;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < 8; ++w) sum += scratch[k][w];
    parts[(size_t)(first + k) * gridDim.x + blockIdx.x] = sum;
}

#define WEIGHTED_SUM_KERNELS(suffix, T)                                                                           \
    /* y (+)= sum_k W[i_k] x_k, four elements a thread */                                                         \
    KERNEL(weighted_sum_##suffix, const float* weights, Terms terms, T* y, int n, int vectors, int accumulate) {  \
        int i = 4 * flat_index();                                                                                 \
        if (i >= n) return;                                                                                       \
        vec4 sum = {};                                                                                            \
        _Pragma("unroll 4") for (int k = 0; k < terms.count; ++k) {                                               \
            float w = weights[terms.entry[k]];                                                                    \
            vec4 four = load_upto4(reinterpret_cast<const T*>(terms.x[k]), i, n, vectors);                        \
            _Pragma("unroll") for (int j = 0; j < 4; ++j) sum.at[j] = fmaf(w, four.at[j], sum.at[j]);             \
        }                                                                                                         \
        put_upto4(y, i, n, sum, vectors, accumulate);                                                             \
    }                                                                                                             \
    /* y (+)= W[entry] g */                                                                                       \
    KERNEL(scale_by_entry_##suffix, const T* g, const float* weights, T* y, int entry, int n, int vectors,        \
           int accumulate) {                                                                                      \
        int i = 4 * flat_index();                                                                                 \
        if (i >= n) return;                                                                                       \
        float w = weights[entry];                                                                                 \
        vec4 four = load_upto4(g, i, n, vectors);                                                                 \
        _Pragma("unroll") for (int j = 0; j < 4; ++j) four.at[j] *= w;                                            \
        put_upto4(y, i, n, four, vectors, accumulate);                                                            \
    }                                                                                                             \
    KERNEL(weight_grad_parts_##suffix, Terms terms, const T* g, float* parts, int n, int vectors) {               \
        weight_parts(terms, g, parts, n, vectors);                                                                \
    }
WEIGHTED_SUM_KERNELS(f32, float)
WEIGHTED_SUM_KERNELS(bf16, bf16)

// Block e: element e of the gradient (+)= the sum of its image's `blocks` parts, or 0 if it belongs to no image.
KERNEL(weight_grad_f32, Terms terms, const float* parts, float* y, int blocks, int accumulate) {
    __shared__ double scratch[32];
    int e = (int)blockIdx.x, own = -1;
    for (int k = 0; k < terms.count; ++k)
        if (terms.entry[k] == e) own = k;
    double sum = 0;
    if (own >= 0)
        for (int b = (int)threadIdx.x; b < blocks; b += (int)blockDim.x)
            sum += (double)parts[(size_t)own * (size_t)blocks + (size_t)b];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) put(y + e, (float)sum, accumulate);
}
