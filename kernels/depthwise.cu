// Depthwise convolution and its gradients. Twin: src/ops/cuda/depthwise.rs.
//
//   y[n,i,j,c]  (+)= sum over a, b of x[n, i s - p + a d, j s - p + b d, c] w[c,a,b]
//   dx[n,i,j,c] (+)= sum over a, b of dy[n, (i + p - a d) / s, (j + p - b d) / s, c] w[c,a,b], where that is whole
//   dw[c,a,b]   (+)= sum over n, i, j of x[n, i s - p + a d, j s - p + b d, c] dy[n,i,j,c]
//
// x, dx: (N, H, W, C) and y, dy: (N, OH, OW, C) of T; w, dw: (C, 1, kh, kw) float; parts: (slabs, C, kh, kw) float.
//
// (64, 32, 32, 16) in float by 3 x 3: 4 MiB in, 4 MiB out and 19 MFLOP, so bound by memory; by 5 x 5 the taps come from
// the first-level cache, 100 MiB. Square kernels of 3, 5 and 7 are unrolled.
#include "window.cuh"

namespace depthwise {

constexpr int MOST_CHANNELS = 64;  // of a block
constexpr int PIXELS = 2;          // of a thread, which share the weights it reads
constexpr int TAPS_AT_ONCE = 10;   // summed over a block

// A thread has V channels of two pixels; a block has `groups` groups of V channels. Block (pixels, channels). K = 0 is
// any kernel, whose weights are read where they are.
template <class T, int K, int V, bool BACK>
DEVICE void slide(const T* x, const float* w, T* y, const ImageWindow& g, int groups, int accumulate) {
    __shared__ __align__(16) float weights[K ? K * K * MOST_CHANNELS : 4];  // (tap, channel of the block)
    const int kh = K ? K : g.kh, kw = K ? K : g.kw, taps = kh * kw;
    const int height = BACK ? g.h : g.oh, width = BACK ? g.w : g.ow;
    const int from_height = BACK ? g.oh : g.h, from_width = BACK ? g.ow : g.w;
    const int first = (int)blockIdx.y * groups * V, channels = min(groups * V, g.c - first);
    if constexpr (K > 0) {
        for (int i = (int)threadIdx.x; i < channels * taps; i += (int)blockDim.x)
            weights[i % taps * (groups * V) + i / taps] = w[(size_t)first * taps + i];
        __syncthreads();
    }
    const int rows = (int)blockDim.x / groups, row = (int)threadIdx.x / groups;
    const int own = (int)threadIdx.x % groups * V, c = first + own;
    if (own >= channels) return;
    const int pixels = g.n * height * width;
    int at[PIXELS];
    Pixel pixel[PIXELS];
    float sum[PIXELS][V] = {};
#pragma unroll
    for (int p = 0; p < PIXELS; ++p) {
        at[p] = ((int)blockIdx.x * PIXELS + p) * rows + row;
        pixel[p] = pixel_of(at[p], height, width);
    }
    // one row of 7 taps already fills the registers
#pragma unroll(K == 3 || K == 5 ? K : 1)
    for (int ky = 0; ky < kh; ++ky) {
        int line[PIXELS];  // of all lines of all images, or negative outside
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
            int sy = tap_source<BACK>(pixel[p].y, ky, g.sh, g.ph, g.dh);
            line[p] = at[p] < pixels && within(sy, from_height) ? pixel[p].n * from_height + sy : -1;
        }
#pragma unroll
        for (int kx = 0; kx < kw; ++kx) {
            float by[V];
            if constexpr (K > 0) {
                load_some<V>(weights + (ky * K + kx) * (groups * V) + own, by);
            } else {
                for (int v = 0; v < V; ++v) by[v] = w[(size_t)(c + v) * taps + ky * kw + kx];
            }
#pragma unroll
            for (int p = 0; p < PIXELS; ++p) {
                int sx = tap_source<BACK>(pixel[p].x, kx, g.sw, g.pw, g.dw);
                if (line[p] < 0 || !within(sx, from_width)) continue;
                float value[V];
                load_some<V>(x + (size_t)(line[p] * from_width + sx) * g.c + c, value);
                for (int v = 0; v < V; ++v) sum[p][v] = fmaf(by[v], value[v], sum[p][v]);
            }
        }
    }
#pragma unroll
    for (int p = 0; p < PIXELS; ++p)
        if (at[p] < pixels) put_some<V>(y + (size_t)at[p] * g.c + c, sum[p], accumulate);
}

// A thread has all taps of one channel, or for K = 0 tap blockIdx.z, over pixels of a slab. Block (slab, channels,
// tap).
template <class T, int K>
DEVICE void weight(const T* x, const T* dy, float* parts, const ImageWindow& g, int channels, int span) {
    constexpr int TAPS = K ? K * K : 1;
    __shared__ float scratch[(TAPS < TAPS_AT_ONCE ? TAPS : TAPS_AT_ONCE) * 256];
    const int first = (int)blockIdx.y * channels, own = (int)threadIdx.x % channels, c = first + own;
    const int lanes = (int)blockDim.x / channels;
    const int from = (int)blockIdx.x * span, to = min(from + span, g.n * g.oh * g.ow);
    const int top = K ? 0 : (int)blockIdx.z / g.kw, left = K ? 0 : (int)blockIdx.z % g.kw;
    float sum[TAPS] = {};
    for (int at = from + (int)threadIdx.x / channels; at < to && c < g.c; at += lanes) {
        const Pixel pixel = pixel_of(at, g.oh, g.ow);
        const float d = load(dy + (size_t)at * g.c + c);
#pragma unroll
        for (int ky = 0; ky < (K ? K : 1); ++ky) {
            const int sy = tap_source<false>(pixel.y, top + ky, g.sh, g.ph, g.dh);
            if (!within(sy, g.h)) continue;
            const int line = pixel.n * g.h + sy;
#pragma unroll
            for (int kx = 0; kx < (K ? K : 1); ++kx) {
                const int sx = tap_source<false>(pixel.x, left + kx, g.sw, g.pw, g.dw);
                if (!within(sx, g.w)) continue;
                const float value = load(x + (size_t)(line * g.w + sx) * g.c + c);
                sum[ky * K + kx] = fmaf(value, d, sum[ky * K + kx]);
            }
        }
    }
    const int taps = K ? TAPS : g.kh * g.kw;
    float* part = parts + (size_t)blockIdx.x * g.c * taps;
#pragma unroll
    for (int t = 0; t < TAPS; t += TAPS_AT_ONCE) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TAPS_AT_ONCE; ++i)
            if (t + i < TAPS) scratch[i * 256 + (int)threadIdx.x] = sum[t + i];
        __syncthreads();
        const int here = min(TAPS_AT_ONCE, TAPS - t);
        for (int i = (int)threadIdx.x; i < here * channels; i += (int)blockDim.x) {
            const int tap = i / channels, channel = i % channels;
            if (first + channel >= g.c) continue;
            float total = 0;
            for (int lane = 0; lane < lanes; ++lane) total += scratch[tap * 256 + lane * channels + channel];
            part[(size_t)(first + channel) * taps + (K ? t + tap : (int)blockIdx.z)] = total;
        }
    }
}

}  // namespace depthwise

#define SLIDE(name, T, K, V, BACK)                                                                            \
    KERNEL(name, const T* x, const float* w, T* y, ImageWindow g, int groups, int accumulate) {               \
        depthwise::slide<T, K, V, BACK>(x, w, y, g, groups, accumulate);                                      \
    }
#define WEIGHT(name, T, K)                                                                                    \
    KERNEL(name, const T* x, const T* dy, float* parts, ImageWindow g, int channels, int span) {              \
        depthwise::weight<T, K>(x, dy, parts, g, channels, span);                                             \
    }
#define BOTH_TYPES(make, name, ...)       \
    make(name##_f32, float, __VA_ARGS__)  \
    make(name##_bf16, bf16, __VA_ARGS__)

BOTH_TYPES(SLIDE, depthwise_3, 3, 4, false)
BOTH_TYPES(SLIDE, depthwise_5, 5, 4, false)
BOTH_TYPES(SLIDE, depthwise_7, 7, 4, false)
BOTH_TYPES(SLIDE, depthwise_any, 0, 4, false)
BOTH_TYPES(SLIDE, depthwise_single, 0, 1, false)
BOTH_TYPES(SLIDE, depthwise_input_3, 3, 4, true)
BOTH_TYPES(SLIDE, depthwise_input_5, 5, 4, true)
BOTH_TYPES(SLIDE, depthwise_input_7, 7, 4, true)
BOTH_TYPES(SLIDE, depthwise_input_any, 0, 4, true)
BOTH_TYPES(SLIDE, depthwise_input_single, 0, 1, true)
BOTH_TYPES(WEIGHT, depthwise_weight_3, 3)
BOTH_TYPES(WEIGHT, depthwise_weight_5, 5)
BOTH_TYPES(WEIGHT, depthwise_weight_7, 7)
BOTH_TYPES(WEIGHT, depthwise_weight_any, 0)
