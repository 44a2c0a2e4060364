// The sums that norms and mixing weights need of a gradient, and what takes the gradient through the norms.
// Twins: src/ops/cuda/cell/backward.rs, src/ops/cuda/preprocess.rs.
//
// With z^ = (z - mean) r, S1 = sum g and S2 = sum g z^ over the M pixels of a channel, and W the mixing weight:
//
//   dW[entry] = sum over channels of S2,  dz = W r (g - S1 / M - z^ S2 / M) = f0 g + f1 z + f2
//
// and where the statistics are given dz = W r g; of a term without a norm dW[entry] = sum g z, dz = W g.
//
// `cell_sums` reads g once for eight terms and every term once: for K terms (1 + 1/8) K N H W C values, 157 MB for 35
// terms at 64 x 32 x 32 x 16 in float; 3 operations a value.
#include "cell.cuh"

struct Term {
    const void* value;  // null: ones
    const float* stats; // row mean, or null
    int32_t pitch, entry;
};
static_assert(sizeof(Term) == 24, "as in Rust");

struct Sums {
    const void* g;
    float* parts; // (blocks, terms, c)
    int32_t g_pitch, pixels, c, quads, count, unused;
    Term at[128];
};
static_assert(sizeof(Sums) <= 4096, "parameters of a kernel");

// Pixels of a thread, terms of a block.
constexpr int PIXELS = 8, TERMS = 8;

template <class T, bool WHOLE>
DEVICE void sums(const Sums& launch) {
    __shared__ __align__(16) float scratch[TERMS * WARPS * 64];
    int quads = launch.quads, width = 4 * quads, lanes = THREADS / quads, c0 = (int)blockIdx.z * width;
    int quad = (int)threadIdx.x % quads, channel = c0 + 4 * quad, left = launch.c - channel;
    int pixel = (int)blockIdx.x * lanes * PIXELS + (int)threadIdx.x / quads;
    int pixels = left > 0 ? launch.pixels : 0;
    vec4 g[PIXELS];
#pragma unroll
    for (int u = 0; u < PIXELS; ++u) {
        int at = pixel + u * lanes;
        g[u] = zero4();
        if (at < pixels) g[u] = load_quad<WHOLE>((const T*)launch.g + (size_t)at * launch.g_pitch + channel, left);
    }
    int first = (int)blockIdx.y * TERMS, count = min(TERMS, launch.count - first);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
        const Term& term = launch.at[first + k];
        vec4 mean = zero4(), sum = zero4();
        if (term.stats && left > 0) mean = load_quad<WHOLE>(term.stats + channel, left);
#pragma unroll
        for (int u = 0; u < PIXELS; ++u) {
            int at = pixel + u * lanes;
            vec4 z = {{1.f, 1.f, 1.f, 1.f}};
            if (term.value && at < pixels)
                z = load_quad<WHOLE>((const T*)term.value + (size_t)at * term.pitch + channel, left);
#pragma unroll
            for (int i = 0; i < 4; ++i) sum.at[i] = fmaf(g[u].at[i], z.at[i] - mean.at[i], sum.at[i]);
        }
        for (int other = quads; other < 32; other <<= 1)
#pragma unroll
            for (int i = 0; i < 4; ++i) sum.at[i] += __shfl_xor_sync(0xffffffffu, sum.at[i], other);
        if (lane < quads) store4(scratch + (k * WARPS + warp) * width + 4 * lane, sum);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < count * width; i += THREADS) {
        int k = i / width, column = i - k * width;
        float sum = 0.f;
#pragma unroll
        for (int from = 0; from < WARPS; ++from) sum += scratch[(k * WARPS + from) * width + column];
        if (c0 + column < launch.c)
            launch.parts[((size_t)blockIdx.x * launch.count + first + k) * launch.c + c0 + column] = sum;
    }
}

#define SUMS(name, T, WHOLE) \
    KERNEL(name, BY_VALUE Sums launch) { sums<T, WHOLE>(launch); }
SUMS(cell_sums_f32, float, true)
SUMS(cell_sums_any_f32, float, false)
SUMS(cell_sums_bf16, bf16, true)
SUMS(cell_sums_any_bf16, bf16, false)

struct FactorsItem {
    const float *s1, *s2; // the first of `blocks` parts, `step` values apart: sums of g and of g (z - mean)
    const float* stats;   // rows mean and r; null: no norm
    float* factors;       // three rows; null: none are wanted
    int32_t step, blocks, entry, normalised; // normalised: z is z^, whatever the mean
};
static_assert(sizeof(FactorsItem) == 48, "as in Rust");

struct Factors {
    const float* mix; // null: W is one
    float* d_mix;     // null: not wanted
    double pixels;
    int32_t c, given;
    FactorsItem at[80];
};
static_assert(sizeof(Factors) <= 4096, "parameters of a kernel");

// A block an item, 16 channels at a time, in double precision.
KERNEL(cell_factors_f32, BY_VALUE Factors launch) {
    __shared__ double scratch[THREADS];
    const FactorsItem& item = launch.at[blockIdx.x];
    int c = launch.c, segment = (int)threadIdx.x / 16;
    double w = launch.mix ? launch.mix[item.entry] : 1., d_mix = 0;
    for (int c0 = 0; c0 < c; c0 += 16) {
        int channel = c0 + (int)threadIdx.x % 16, blocks = channel < c ? item.blocks : 0;
        double s1 = 0, s2 = 0;
#pragma unroll 8
        for (int i = segment; i < blocks; i += 16) {
            s1 += (double)item.s1[(size_t)i * item.step + channel];
            s2 += (double)item.s2[(size_t)i * item.step + channel];
        }
        s1 = sum_of_channel(s1, scratch);
        s2 = sum_of_channel(s2, scratch);
        if (channel >= c || segment > 0) continue;
        double mean = 0, r = 1, scale = 1; // z^ = (z - mean) r, and dz = w scale (..)
        if (item.stats) scale = (double)item.stats[c + channel];
        if (item.stats && !item.normalised) mean = (double)item.stats[channel], r = scale;
        s2 *= r;
        d_mix += s2;
        if (!item.factors) continue;
        double by_z = 0, plus = 0;
        if (item.stats && !launch.given) {
            by_z = -w * scale * r * s2 / launch.pixels;
            plus = -w * scale * s1 / launch.pixels - by_z * mean;
        }
        item.factors[channel] = (float)(w * scale);
        item.factors[c + channel] = (float)by_z;
        item.factors[2 * c + channel] = (float)plus;
    }
    if (!launch.d_mix) return;
    __syncthreads();
    scratch[threadIdx.x] = d_mix;
    __syncthreads();
    if (threadIdx.x > 0) return;
    double total = 0;
    for (int i = 0; i < 16; ++i) total += scratch[i];
    launch.d_mix[item.entry] = (float)total;
}
