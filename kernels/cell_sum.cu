// A node as the weighted sum of its candidates, norms applied as it reads; and the statistics that those norms are of.
// Twins: src/ops/cuda/cell/forward.rs, and src/ops/cuda/preprocess.rs, where the one term is the result itself.
//
//   y[p, c] = sum over terms of W[entry] r[c] (z[p, c] - mean[c]),  W[entry] z[p, c] of a term without a norm
//
// A thread a quad of a pixel; the block first works out W r and mean of all terms for its channels, in shared memory.
// Bound by memory: of K terms (K + 1) N H W C values, 35 + 1 times 4 MB for the last node at 64 x 32 x 32 x 16 in float;
// 2 operations a value.
#include "cell.cuh"

struct Term {
    const void* value;
    const float* stats; // rows mean and r, or null
    int32_t pitch, entry;
};
static_assert(sizeof(Term) == 24, "as in Rust");

struct Sum {
    const float* mix; // null: every weight is one
    void* y;
    int32_t pixels, c, quads, count, pitch, accumulate;
    Term at[64];
};
static_assert(sizeof(Sum) <= 4096, "parameters of a kernel");

template <class T, bool WHOLE>
DEVICE void sum(const Sum& launch) {
    DYNAMIC_SHARED(float, rows); // of each term factors and means of the block's channels
    int quads = launch.quads, width = 4 * quads, c0 = (int)blockIdx.y * width, c = launch.c;
    for (int i = (int)threadIdx.x; i < launch.count * width; i += THREADS) {
        int k = i / width, column = i - k * width, channel = c0 + column;
        const Term& term = launch.at[k];
        float factor = launch.mix ? launch.mix[term.entry] : 1.f, mean = 0.f;
        if (term.stats && channel < c) factor *= term.stats[c + channel], mean = term.stats[channel];
        rows[2 * k * width + column] = factor;
        rows[(2 * k + 1) * width + column] = mean;
    }
    __syncthreads();
    int quad = (int)threadIdx.x % quads, lanes = THREADS / quads, channel = c0 + 4 * quad, left = c - channel;
    if (left <= 0) return;
    const float* own = rows + 4 * quad;
    for (int pixel = (int)blockIdx.x * lanes + (int)threadIdx.x / quads; pixel < launch.pixels;
         pixel += (int)gridDim.x * lanes) {
        T* to = (T*)launch.y + (size_t)pixel * launch.pitch + channel;
        vec4 y = zero4();
        if (launch.accumulate) y = load_quad<WHOLE>(to, left);
#pragma unroll 8
        for (int k = 0; k < launch.count; ++k) {
            const Term& term = launch.at[k];
            vec4 z = load_quad<WHOLE>((const T*)term.value + (size_t)pixel * term.pitch + channel, left);
            vec4 factor = load4(own + 2 * k * width), mean = load4(own + (2 * k + 1) * width);
#pragma unroll
            for (int i = 0; i < 4; ++i) y.at[i] = fmaf(factor.at[i], z.at[i] - mean.at[i], y.at[i]);
        }
        store_quad<WHOLE>(to, y, left);
    }
}

#define SUM(name, T, WHOLE) \
    KERNEL(name, BY_VALUE Sum launch) { sum<T, WHOLE>(launch); }
SUM(cell_sum_f32, float, true)
SUM(cell_sum_any_f32, float, false)
SUM(cell_sum_bf16, bf16, true)
SUM(cell_sum_any_bf16, bf16, false)

struct StatisticsItem {
    const float* moments;
    float* stats; // rows mean, r, variance
};
static_assert(sizeof(StatisticsItem) == 16, "as in Rust");

struct Statistics {
    double pixels, epsilon;
    int32_t blocks, c;
    StatisticsItem at[200];
};
static_assert(sizeof(Statistics) <= 4096, "parameters of a kernel");

// A block 16 channels of an item: the moments of all blocks of `cell_conv`, merged in double precision, about the mean of
// the first, a value of the right size, so that nothing cancels.
KERNEL(cell_statistics_f32, BY_VALUE Statistics launch) {
    __shared__ double scratch[THREADS];
    const StatisticsItem& item = launch.at[blockIdx.y];
    int channel = (int)blockIdx.x * 16 + (int)threadIdx.x % 16, segment = (int)threadIdx.x / 16, c = launch.c;
    int blocks = channel < c ? launch.blocks : 0;
    const float* moments = item.moments + channel;
    double shift = blocks > 0 ? (double)moments[0] : 0., sum = 0, squares = 0;
#pragma unroll 8
    for (int i = segment; i < blocks; i += 16) {
        const float* own = moments + (size_t)i * 3 * c;
        double off = (double)own[0] - shift, count = (double)own[2 * c];
        sum += count * off;
        squares += (double)own[c] + count * off * off;
    }
    double mean = sum_of_channel(sum, scratch) / launch.pixels;
    double variance = sum_of_channel(squares, scratch) / launch.pixels - mean * mean;
    if (variance < 0.) variance = 0.; // NaN stays
    if (channel >= c || segment > 0) return;
    item.stats[channel] = (float)(shift + mean);
    item.stats[c + channel] = (float)(1. / sqrt(variance + launch.epsilon));
    item.stats[2 * c + channel] = (float)variance;
}
