// Dense convolution and its gradients as matrix products, whose columns are built in shared memory. Twin:
// src/ops/cuda/conv.rs.
//
//   y[n,i,j,o]  (+)= sum over a, b, c of x[n, i s - p + a d, j s - p + b d, c] w[o,c,a,b]
//   dx[n,i,j,c] (+)= sum over a, b, o of dy[n, (i + p - a d) / s, (j + p - b d) / s, o] w[o,c,a,b], where that is whole
//   dw[o,c,a,b] (+)= sum over n, i, j of x[n, i s - p + a d, j s - p + b d, c] dy[n,i,j,o]
//
// x, dx: (N, H, W, C) and y, dy: (N, OH, OW, O) of T; w, dw: (O, C, kh, kw) float; parts: (slabs, O, C, kh, kw) float.
// Sources are the channels that are summed over, targets those of the result; depth k = (a kw + b) sources + source.
//
// 1 x 1 from 16 to 16 channels of (64, 32, 32) in float: 8 MiB and 34 MFLOP, from 256 to 64 of (64, 8, 8): 5 MiB and
// 134 MFLOP: bound by memory, or nearly. The stem, 3 x 3 from 3 to 48 of (64, 32, 32): 13 MiB and 170 MFLOP.
#include "window.cuh"

namespace conv {

constexpr int DEPTH = 16;  // of what lies in shared memory at a time

// Where a depth lies: tap and source channel.
struct Depth {
    int ky, kx, channel;
};
DEVICE Depth depth_of(int k, int sources, int kw) {
    const int tap = k / sources, ky = tap / kw;
    return {ky, tap - ky * kw, k - tap * sources};
}

// A target pixel, and the image it sees; null beyond the last pixel.
template <class T>
struct Row {
    const T* image;
    int y, x;
};
template <class T>
DEVICE Row<T> row_of(const T* x, int at, int pixels, int height, int width, size_t image) {
    const Pixel p = pixel_of(at, height, width);
    return {at < pixels ? x + p.n * image : nullptr, p.y, p.x};
}

// The element of the image that a row sees at a depth, or null.
template <bool BACK, class T>
DEVICE const T* element(const Row<T>& row, const Depth& k, const ImageWindow& g) {
    const int sy = tap_source<BACK>(row.y, k.ky, g.sh, g.ph, g.dh);
    const int sx = tap_source<BACK>(row.x, k.kx, g.sw, g.pw, g.dw);
    if (!row.image || !within(sy, BACK ? g.oh : g.h) || !within(sx, BACK ? g.ow : g.w)) return nullptr;
    return row.image + (size_t)(sy * (BACK ? g.ow : g.w) + sx) * (BACK ? g.d : g.c) + k.channel;
}

// What a row sees at four depths from k on.
template <bool BACK, class T>
DEVICE vec4 four_elements(const Row<T>& row, int k, int depth, int sources, const ImageWindow& g) {
    vec4 out = {};
    if (sources % 4 == 0) {
        const T* from = k < depth ? element<BACK>(row, depth_of(k, sources, g.kw), g) : nullptr;
        if (from) out = load4(from);
        return out;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const T* from = k + i < depth ? element<BACK>(row, depth_of(k + i, sources, g.kw), g) : nullptr;
        if (from) out.at[i] = load(from);
    }
    return out;
}

// The weight between depth k and a target, 0 beyond.
template <bool BACK>
DEVICE float weight_at(const float* w, int k, int depth, int sources, int target, int targets, int taps) {
    if (k >= depth || target >= targets) return 0.f;
    const int tap = k / sources, source = k - tap * sources;
    const size_t pair = BACK ? (size_t)source * targets + target : (size_t)target * sources + source;
    return w[pair * taps + tap];
}

// M pixels by N targets a block, of which a thread has M N / 1024 pixels by 4 targets. Block (pixels, targets).
template <class T, int M, int N, bool BACK>
DEVICE void product(const T* x, const float* w, T* y, const ImageWindow& g, int accumulate) {
    constexpr int ROWS = M * N / 1024, COLUMNS = N / 4;
    constexpr int FETCHES = M < 64 ? 1 : M / 64, WEIGHTS = DEPTH * N / 256;
    __shared__ __align__(16) float xs[DEPTH][M + 4], ws[DEPTH][N + 4];
    const int tid = (int)threadIdx.x, taps = g.kh * g.kw;
    const int sources = BACK ? g.d : g.c, targets = BACK ? g.c : g.d, depth = taps * sources;
    const int height = BACK ? g.h : g.oh, width = BACK ? g.w : g.ow, pixels = g.n * height * width;
    const size_t image = (size_t)(BACK ? g.oh * g.ow : g.h * g.w) * sources;
    const int first = (int)blockIdx.x * M, first_target = (int)blockIdx.y * N;

    // fetched by this thread: four depths of pixels tid / 4 + 64 j, and some weights
    const int quad = tid % 4 * 4, fetched = tid / 4;
    Row<T> row[FETCHES];
#pragma unroll
    for (int j = 0; j < FETCHES; ++j)
        row[j] = row_of(x, first + fetched + 64 * j, fetched + 64 * j < M ? pixels : 0, height, width, image);
    vec4 next_x[FETCHES];
    float next_w[WEIGHTS];
    auto weight_k = [&](int j) { return BACK ? (tid + 256 * j) / N : tid % DEPTH; };
    auto weight_target = [&](int j) { return BACK ? tid % N : (tid + 256 * j) / DEPTH; };
    auto fetch = [&](int k) {
#pragma unroll
        for (int j = 0; j < FETCHES; ++j) next_x[j] = four_elements<BACK>(row[j], k + quad, depth, sources, g);
#pragma unroll
        for (int j = 0; j < WEIGHTS; ++j)
            next_w[j] = weight_at<BACK>(w, k + weight_k(j), depth, sources, first_target + weight_target(j), targets,
                                        taps);
    };

    const int column = tid % COLUMNS * 4, top = tid / COLUMNS * ROWS;
    float sum[ROWS][4] = {};
    fetch(0);
    for (int k = 0; k < depth; k += DEPTH) {
        __syncthreads();
#pragma unroll
        for (int j = 0; j < FETCHES; ++j)
            if (fetched + 64 * j < M)
                for (int i = 0; i < 4; ++i) xs[quad + i][fetched + 64 * j] = next_x[j].at[i];
#pragma unroll
        for (int j = 0; j < WEIGHTS; ++j) ws[weight_k(j)][weight_target(j)] = next_w[j];
        __syncthreads();
        if (k + DEPTH < depth) fetch(k + DEPTH);
#pragma unroll
        for (int i = 0; i < DEPTH; ++i) {
            float a[ROWS];
            if constexpr (ROWS % 4 == 0) {
#pragma unroll
                for (int r = 0; r < ROWS; r += 4) {
                    const vec4 part = load4(&xs[i][top + r]);
                    for (int q = 0; q < 4; ++q) a[r + q] = part.at[q];
                }
            } else {
                for (int r = 0; r < ROWS; ++r) a[r] = xs[i][top + r];
            }
            const vec4 b = load4(&ws[i][column]);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
                for (int q = 0; q < 4; ++q) sum[r][q] = fmaf(a[r], b.at[q], sum[r][q]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int at = first + top + r, target = first_target + column;
        if (at >= pixels) continue;
        T* to = y + (size_t)at * targets + target;
        if (targets % 4 == 0) {
            if (target < targets) put_some<4>(to, sum[r], accumulate);
        } else {
            for (int q = 0; q < 4; ++q)
                if (target + q < targets) put(to + q, sum[r][q], accumulate);
        }
    }
}

// A block has M outputs by N depths, over the pixels of a slab; a thread has some outputs by 4 depths. Block (slab,
// outputs, depths). Sixteen pixels lie in shared memory at a time.
template <class T, int M, int N>
DEVICE void weight_product(const T* x, const T* dy, float* parts, const ImageWindow& g, int span) {
    constexpr int PIXELS = 16, COLUMNS = N / 4, ROWS = M * COLUMNS / 256, QUADS = M / 4;
    __shared__ __align__(16) float xs[PIXELS][N], ds[PIXELS][M];
    const int tid = (int)threadIdx.x, taps = g.kh * g.kw, depth = taps * g.c, pixels = g.n * g.oh * g.ow;
    const int from = (int)blockIdx.x * span, to = min(from + span, pixels);
    const int first_output = (int)blockIdx.y * M, first_depth = (int)blockIdx.z * N;
    const size_t image = (size_t)g.h * g.w * g.c;

    // fetched by this thread: four depths of one pixel, four outputs of another
    const int column = tid % COLUMNS * 4, x_pixel = tid / COLUMNS, k = first_depth + column;
    const int quad = tid % QUADS * 4, d_pixel = tid / QUADS, output = first_output + quad;
    Depth depths[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) depths[i] = depth_of(k + i, g.c, g.kw);
    vec4 next_x, next_d;
    auto fetch = [&](int start) {
        next_x = next_d = {};
        if (x_pixel < PIXELS && start + x_pixel < to) {
            const Row<T> row = row_of(x, start + x_pixel, pixels, g.oh, g.ow, image);
            if (g.c % 4 == 0) {
                const T* at = k < depth ? element<false>(row, depths[0], g) : nullptr;
                if (at) next_x = load4(at);
            } else {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const T* at = k + i < depth ? element<false>(row, depths[i], g) : nullptr;
                    if (at) next_x.at[i] = load(at);
                }
            }
        }
        if (d_pixel < PIXELS && start + d_pixel < to) {
            const T* at = dy + (size_t)(start + d_pixel) * g.d + output;
            if (g.d % 4 == 0) {
                if (output < g.d) next_d = load4(at);
            } else {
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    if (output + i < g.d) next_d.at[i] = load(at + i);
            }
        }
    };

    const int top = tid / COLUMNS * ROWS;
    float sum[ROWS][4] = {};
    fetch(from);
    for (int start = from; start < to; start += PIXELS) {
        __syncthreads();
        if (x_pixel < PIXELS) store4(&xs[x_pixel][column], next_x);
        if (d_pixel < PIXELS) store4(&ds[d_pixel][quad], next_d);
        __syncthreads();
        if (start + PIXELS < to) fetch(start + PIXELS);
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
            const vec4 b = load4(&xs[p][column]);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
                for (int q = 0; q < 4; ++q) sum[r][q] = fmaf(ds[p][top + r], b.at[q], sum[r][q]);
        }
    }
    float* part = parts + (size_t)blockIdx.x * g.d * depth;
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const int o = first_output + top + r;
            if (o >= g.d || k + q >= depth) continue;
            const int tap = depths[q].ky * g.kw + depths[q].kx;
            part[((size_t)o * g.c + depths[q].channel) * taps + tap] = sum[r][q];
        }
}

}  // namespace conv

#define PRODUCT(name, T, M, N, BACK)                                                                      \
    KERNEL(name, const T* x, const float* w, T* y, ImageWindow g, int accumulate) {                       \
        conv::product<T, M, N, BACK>(x, w, y, g, accumulate);                                             \
    }
#define WEIGHT(name, T, M, N)                                                                             \
    KERNEL(name, const T* x, const T* dy, float* parts, ImageWindow g, int span) {                        \
        conv::weight_product<T, M, N>(x, dy, parts, g, span);                                             \
    }
#define BOTH_TYPES(make, name, ...)       \
    make(name##_f32, float, __VA_ARGS__)  \
    make(name##_bf16, bf16, __VA_ARGS__)

BOTH_TYPES(PRODUCT, conv_128x16, 128, 16, false)
BOTH_TYPES(PRODUCT, conv_128x32, 128, 32, false)
BOTH_TYPES(PRODUCT, conv_128x64, 128, 64, false)
BOTH_TYPES(PRODUCT, conv_32x64, 32, 64, false)
BOTH_TYPES(PRODUCT, conv_input_128x16, 128, 16, true)
BOTH_TYPES(PRODUCT, conv_input_128x32, 128, 32, true)
BOTH_TYPES(PRODUCT, conv_input_128x64, 128, 64, true)
BOTH_TYPES(PRODUCT, conv_input_32x64, 32, 64, true)
BOTH_TYPES(WEIGHT, conv_weight_16x64, 16, 64)
BOTH_TYPES(WEIGHT, conv_weight_32x64, 32, 64)
BOTH_TYPES(WEIGHT, conv_weight_64x64, 64, 64)
BOTH_TYPES(WEIGHT, conv_weight_64x32, 64, 32)
