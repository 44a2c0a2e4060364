// Walks over images whose C channels are innermost: elementwise with numbers a channel, and sums a channel.
//
// Also of other tensors: all but the last extent are pixels. Twin: src/ops/cuda/walk.rs.
#pragma once
#include "common.cuh"

// Block (b, d) has pixels b span .. (b + 1) span. A thread keeps to one channel, or to four neighbouring ones if
// `vectors`, so that it reads what belongs to a channel once; `lanes` threads share a pixel, and blocks d = 0, 1, ..
// share the channels. With C a multiple of 4, a warp reads 512 (256) bytes in a row.
struct Walk {
    int pixels, channels, span, lanes, vectors;
};

// What one thread has of a walk, W channels at a time.
template <int W>
struct Path {
    int lane, row, rows, channel, from, to;

    DEVICE explicit Path(const Walk& walk) {
        lane = (int)threadIdx.x % walk.lanes;
        row = (int)threadIdx.x / walk.lanes;
        rows = (int)blockDim.x / walk.lanes;
        channel = ((int)blockIdx.y * walk.lanes + lane) * W;
        from = (int)blockIdx.x * walk.span + row;
        // beyond the last channel there is nothing to do
        to = channel < walk.channels ? min(((int)blockIdx.x + 1) * walk.span, walk.pixels) : 0;
    }
};

template <int W>
struct Few {
    float at[W];
};

template <int W, class T>
DEVICE Few<W> load_few(const T* from) {
    Few<W> few;
    if constexpr (W == 4) {
        vec4 four = load4(from);
#pragma unroll
        for (int w = 0; w < W; ++w) few.at[w] = four.at[w];
    } else {
        few.at[0] = load(from);
    }
    return few;
}

template <int W, class T>
DEVICE void put_few(T* to, Few<W> few, int accumulate) {
    if constexpr (W == 4) {
        vec4 four = {{few.at[0], few.at[1], few.at[2], few.at[3]}};
        if (accumulate) {
            vec4 old = load4(to);
#pragma unroll
            for (int w = 0; w < W; ++w) four.at[w] += old.at[w];
        }
        store4(to, four);
    } else {
        put(to, few.at[0], accumulate);
    }
}

// The numbers of this thread's channels: param(k, channel) for k = 0 .. P - 1.
template <int W, int P, class Param>
DEVICE void load_params(float (&to)[W][P], const Path<W>& path, const Walk& walk, Param param) {
#pragma unroll
    for (int w = 0; w < W; ++w)
#pragma unroll
        for (int k = 0; k < P; ++k) to[w][k] = path.channel < walk.channels ? param(k, path.channel + w) : 0.f;
}

template <int W, int P, class T, int N, class Param, class F>
DEVICE void map_few(const T* const (&x)[N], T* y, const Walk& walk, int accumulate, Param param, F f) {
    Path<W> path(walk);
    float p[W][P];
    load_params(p, path, walk, param);
#pragma unroll 2
    for (int pixel = path.from; pixel < path.to; pixel += path.rows) {
        size_t at = (size_t)pixel * (size_t)walk.channels + (size_t)path.channel;
        Few<W> in[N], out;
#pragma unroll
        for (int n = 0; n < N; ++n) in[n] = load_few<W>(x[n] + at);
#pragma unroll
        for (int w = 0; w < W; ++w) {
            float values[N];
#pragma unroll
            for (int n = 0; n < N; ++n) values[n] = in[n].at[w];
            out.at[w] = f(values, p[w]);
        }
        put_few<W>(y + at, out, accumulate);
    }
}

// y (+)= f(values of the N images, param(0 .. P - 1, channel))
template <int P, class T, int N, class Param, class F>
DEVICE void map_channels(const T* const (&x)[N], T* y, const Walk& walk, int accumulate, Param param, F f) {
    if (walk.vectors)
        map_few<4, P>(x, y, walk, accumulate, param, f);
    else
        map_few<1, P>(x, y, walk, accumulate, param, f);
}

// Replaces x by the sums over the rows of the block, for every thread of a lane; `scratch` holds 256 N numbers.
template <int W, int N>
DEVICE void sum_rows(float (&x)[N], float* scratch, const Path<W>& path) {
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n) scratch[n * 256 + (int)threadIdx.x] = x[n];
    int half = 1;
    while (2 * half < path.rows) half *= 2;
    for (; half > 0; half /= 2) {
        __syncthreads();
        if (path.row < half && path.row + half < path.rows) {
            int other = (int)(threadIdx.x + blockDim.x / (unsigned)path.rows * (unsigned)half);
#pragma unroll
            for (int n = 0; n < N; ++n) scratch[n * 256 + (int)threadIdx.x] += scratch[n * 256 + other];
        }
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n) x[n] = scratch[n * 256 + path.lane];
}

// Where the block's number k of K of this thread's first channel goes.
template <int W>
DEVICE float* part(float* parts, int k, int K, const Path<W>& path, const Walk& walk) {
    return parts + ((size_t)blockIdx.x * (size_t)K + (size_t)k) * (size_t)walk.channels + (size_t)path.channel;
}

template <int W, int P, int K, class T, int N, class Param, class F>
DEVICE void sum_few(const T* const (&x)[N], float* parts, const Walk& walk, Param param, F f) {
    __shared__ float scratch[256 * K * W];
    Path<W> path(walk);
    float p[W][P];
    load_params(p, path, walk, param);
    float sums[K * W] = {};
#pragma unroll(N == 1 ? 4 : 2)
    for (int pixel = path.from; pixel < path.to; pixel += path.rows) {
        size_t at = (size_t)pixel * (size_t)walk.channels + (size_t)path.channel;
        Few<W> in[N];
#pragma unroll
        for (int n = 0; n < N; ++n) in[n] = load_few<W>(x[n] + at);
#pragma unroll
        for (int w = 0; w < W; ++w) {
            float values[N], terms[K];
#pragma unroll
            for (int n = 0; n < N; ++n) values[n] = in[n].at[w];
            f(values, p[w], terms);
#pragma unroll
            for (int k = 0; k < K; ++k) sums[k * W + w] += terms[k];
        }
    }
    sum_rows<W>(sums, scratch, path);
    if (path.row != 0 || path.channel >= walk.channels) return;
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
        for (int w = 0; w < W; ++w) part(parts, k, K, path, walk)[w] = sums[k * W + w];
}

// parts[b][k][c] = sum over the pixels of block b of term k, for K terms that f(values, params, terms) sets.
template <int P, int K, class T, int N, class Param, class F>
DEVICE void sum_channels(const T* const (&x)[N], float* parts, const Walk& walk, Param param, F f) {
    if (walk.vectors)
        sum_few<4, P, K>(x, parts, walk, param, f);
    else
        sum_few<1, P, K>(x, parts, walk, param, f);
}

// The sum of number k of K of channel c over n parts, in every thread of the block.
DEVICE double total(const float* parts, int n, int k, int K, int c, int C, double* scratch) {
    double sum = 0;
    for (int b = (int)threadIdx.x; b < n; b += (int)blockDim.x)
        sum += (double)parts[((size_t)b * (size_t)K + (size_t)k) * (size_t)C + (size_t)c];
    return block_sum(sum, scratch);
}
