// Pooling: maximum and average under a window, and means of whole images. Twin: src/ops/cuda/pool.rs.
//
//   max_pool:    y (+)= the maximum over the taps inside the image, tap = a kw + b of where it is: the first of equals;
//                a NaN wins over every number
//   max_gather:  y (+)= x at the tap of each target
//   max_scatter: dx (+)= sum over the targets whose tap points here of dy
//   avg_pool:    y (+)= mean of the taps inside the image;  avg_pool_grad: its transpose
//   global_avg_pool: y[n,c] (+)= mean over i, j of x[n,i,j,c];  global_spread: its transpose
//
// x, dx: (N, H, W, C) and y, dy: (N, OH, OW, C) of T; taps: (N, OH, OW, C) bytes. A thread has V channels of a pixel.
//
// All are bound by memory: 3 x 3 over (64, 32, 32, 16) in float reads 4 MiB and writes 5 MiB for 9 Mi comparisons.
#include "window.cuh"

namespace pool {

struct __align__(4) byte4 {
    uint8_t at[4];
};

template <int V>
DEVICE void load_bytes(const uint8_t* from, int (&x)[V]) {
    if constexpr (V == 4) {
        byte4 b = *reinterpret_cast<const byte4*>(from);
        for (int i = 0; i < 4; ++i) x[i] = b.at[i];
    } else {
        x[0] = *from;
    }
}
template <int V>
DEVICE void store_bytes(uint8_t* to, const int (&x)[V]) {
    if constexpr (V == 4) {
        *reinterpret_cast<byte4*>(to) = {{(uint8_t)x[0], (uint8_t)x[1], (uint8_t)x[2], (uint8_t)x[3]}};
    } else {
        *to = (uint8_t)x[0];
    }
}

// The V channels of a thread: from `c` on, of pixel `at`; none beyond the last pixel.
struct Place {
    int at, c;
    Pixel pixel;
    bool none;
};
template <int V>
DEVICE Place place(const ImageWindow& g, int height, int width) {
    const int i = flat_index(), groups = g.c / V, at = i / groups;
    return {at, i % groups * V, pixel_of(at, height, width), at >= g.n * height * width};
}

template <class T, int V>
DEVICE void maximum(const T* x, T* y, uint8_t* taps, const ImageWindow& g, int accumulate) {
    const Place p = place<V>(g, g.oh, g.ow);
    if (p.none) return;
    float best[V];
    int tap[V];
    for (int v = 0; v < V; ++v) {
        best[v] = -INFINITY;
        tap[v] = -1;
    }
    for (int ky = 0; ky < g.kh; ++ky) {
        const int sy = tap_source<false>(p.pixel.y, ky, g.sh, g.ph, g.dh);
        if (!within(sy, g.h)) continue;
#pragma unroll 3
        for (int kx = 0; kx < g.kw; ++kx) {
            const int sx = tap_source<false>(p.pixel.x, kx, g.sw, g.pw, g.dw);
            if (!within(sx, g.w)) continue;
            float value[V];
            load_some<V>(x + (size_t)((p.pixel.n * g.h + sy) * g.w + sx) * g.c + p.c, value);
            for (int v = 0; v < V; ++v) {
                // the first tap, should all be minus infinity
                const bool wins = value[v] > best[v] || value[v] != value[v] || tap[v] < 0;
                best[v] = wins ? value[v] : best[v];
                tap[v] = wins ? ky * g.kw + kx : tap[v];
            }
        }
    }
    put_some<V>(y + (size_t)p.at * g.c + p.c, best, accumulate);
    store_bytes<V>(taps + (size_t)p.at * g.c + p.c, tap);
}

template <class T, int V>
DEVICE void gather(const T* x, const uint8_t* taps, T* y, const ImageWindow& g, int accumulate) {
    const Place p = place<V>(g, g.oh, g.ow);
    if (p.none) return;
    const size_t to = (size_t)p.at * g.c + p.c;
    int tap[V];
    float value[V] = {};
    load_bytes<V>(taps + to, tap);
    for (int v = 0; v < V; ++v) {
        const int sy = tap_source<false>(p.pixel.y, tap[v] / g.kw, g.sh, g.ph, g.dh);
        const int sx = tap_source<false>(p.pixel.x, tap[v] % g.kw, g.sw, g.pw, g.dw);
        if (within(sy, g.h) && within(sx, g.w))
            value[v] = load(x + (size_t)((p.pixel.n * g.h + sy) * g.w + sx) * g.c + p.c + v);
    }
    put_some<V>(y + to, value, accumulate);
}

template <class T, int V>
DEVICE void scatter(const T* dy, const uint8_t* taps, T* dx, const ImageWindow& g, int accumulate) {
    const Place p = place<V>(g, g.h, g.w);
    if (p.none) return;
    float sum[V] = {};
    for (int ky = 0; ky < g.kh; ++ky) {
        const int sy = tap_source<true>(p.pixel.y, ky, g.sh, g.ph, g.dh);
        if (!within(sy, g.oh)) continue;
#pragma unroll 3
        for (int kx = 0; kx < g.kw; ++kx) {
            const int sx = tap_source<true>(p.pixel.x, kx, g.sw, g.pw, g.dw);
            if (!within(sx, g.ow)) continue;
            const size_t from = (size_t)((p.pixel.n * g.oh + sy) * g.ow + sx) * g.c + p.c;
            float value[V];
            int tap[V];
            load_some<V>(dy + from, value);
            load_bytes<V>(taps + from, tap);
            for (int v = 0; v < V; ++v) sum[v] += tap[v] == ky * g.kw + kx ? value[v] : 0.f;
        }
    }
    put_some<V>(dx + (size_t)p.at * g.c + p.c, sum, accumulate);
}

// Taps of target `at` that are inside, along one axis of the source.
DEVICE int taps_inside(int at, int size, int kernel, int stride, int padding, int dilation) {
    const int start = at * stride - padding;
    int count = 0;
    for (int k = 0; k < kernel; ++k) count += within(start + k * dilation, size);
    return count;
}

template <class T, int V>
DEVICE void average(const T* x, T* y, const ImageWindow& g, int accumulate) {
    const Place p = place<V>(g, g.oh, g.ow);
    if (p.none) return;
    float sum[V] = {};
    int count = 0;
    for (int ky = 0; ky < g.kh; ++ky) {
        const int sy = tap_source<false>(p.pixel.y, ky, g.sh, g.ph, g.dh);
        if (!within(sy, g.h)) continue;
#pragma unroll 3
        for (int kx = 0; kx < g.kw; ++kx) {
            const int sx = tap_source<false>(p.pixel.x, kx, g.sw, g.pw, g.dw);
            if (!within(sx, g.w)) continue;
            float value[V];
            load_some<V>(x + (size_t)((p.pixel.n * g.h + sy) * g.w + sx) * g.c + p.c, value);
            for (int v = 0; v < V; ++v) sum[v] += value[v];
            ++count;
        }
    }
    const float share = 1.f / (float)max(count, 1);
    for (int v = 0; v < V; ++v) sum[v] *= share;
    put_some<V>(y + (size_t)p.at * g.c + p.c, sum, accumulate);
}

template <class T, int V>
DEVICE void average_grad(const T* dy, T* dx, const ImageWindow& g, int accumulate) {
    const Place p = place<V>(g, g.h, g.w);
    if (p.none) return;
    float sum[V] = {};
    for (int ky = 0; ky < g.kh; ++ky) {
        const int sy = tap_source<true>(p.pixel.y, ky, g.sh, g.ph, g.dh);
        if (!within(sy, g.oh)) continue;
        const int high = taps_inside(sy, g.h, g.kh, g.sh, g.ph, g.dh);
        for (int kx = 0; kx < g.kw; ++kx) {
            const int sx = tap_source<true>(p.pixel.x, kx, g.sw, g.pw, g.dw);
            if (!within(sx, g.ow)) continue;
            const float share = 1.f / (float)(high * taps_inside(sx, g.w, g.kw, g.sw, g.pw, g.dw));
            float value[V];
            load_some<V>(dy + (size_t)((p.pixel.n * g.oh + sy) * g.ow + sx) * g.c + p.c, value);
            for (int v = 0; v < V; ++v) sum[v] = fmaf(share, value[v], sum[v]);
        }
    }
    put_some<V>(dx + (size_t)p.at * g.c + p.c, sum, accumulate);
}

// Block (image, channels), of `channels` channels; summed in double precision.
template <class T>
DEVICE void global_average(const T* x, T* y, int pixels, int c, int channels, int accumulate) {
    __shared__ double scratch[256];
    const int own = (int)threadIdx.x % channels, lane = (int)threadIdx.x / channels;
    const int lanes = (int)blockDim.x / channels, at = (int)blockIdx.y * channels + own;
    const T* image = x + (size_t)blockIdx.x * pixels * c;
    double sum = 0;
    for (int p = lane; p < pixels && at < c; p += lanes) sum += (double)load(image + (size_t)p * c + at);
    scratch[threadIdx.x] = sum;
    __syncthreads();
    if (lane > 0 || at >= c) return;
    for (int other = 1; other < lanes; ++other) sum += scratch[other * channels + own];
    put(y + (size_t)blockIdx.x * c + at, (float)(sum / pixels), accumulate);
}

}  // namespace pool

// Each with four channels a thread, and with one.
#define BOTH_WIDTHS(make, name, T, suffix) \
    make(name##_##suffix, T, 4)            \
    make(name##_single_##suffix, T, 1)
#define BOTH_TYPES(make, name)            \
    BOTH_WIDTHS(make, name, float, f32)   \
    BOTH_WIDTHS(make, name, bf16, bf16)

#define MAX_POOL(name, T, V)                                                                 \
    KERNEL(name, const T* x, T* y, uint8_t* taps, ImageWindow g, int accumulate) {           \
        pool::maximum<T, V>(x, y, taps, g, accumulate);                                      \
    }
#define MAX_GATHER(name, T, V)                                                               \
    KERNEL(name, const T* x, const uint8_t* taps, T* y, ImageWindow g, int accumulate) {     \
        pool::gather<T, V>(x, taps, y, g, accumulate);                                       \
    }
#define MAX_SCATTER(name, T, V)                                                              \
    KERNEL(name, const T* dy, const uint8_t* taps, T* dx, ImageWindow g, int accumulate) {   \
        pool::scatter<T, V>(dy, taps, dx, g, accumulate);                                    \
    }
#define AVG_POOL(name, T, V) \
    KERNEL(name, const T* x, T* y, ImageWindow g, int accumulate) { pool::average<T, V>(x, y, g, accumulate); }
#define AVG_POOL_GRAD(name, T, V)                                        \
    KERNEL(name, const T* dy, T* dx, ImageWindow g, int accumulate) {    \
        pool::average_grad<T, V>(dy, dx, g, accumulate);                 \
    }
BOTH_TYPES(MAX_POOL, max_pool)
BOTH_TYPES(MAX_GATHER, max_gather)
BOTH_TYPES(MAX_SCATTER, max_scatter)
BOTH_TYPES(AVG_POOL, avg_pool)
BOTH_TYPES(AVG_POOL_GRAD, avg_pool_grad)

#define GLOBAL_AVG_POOL(name, T)                                                                 \
    KERNEL(name, const T* x, T* y, int pixels, int c, int channels, int accumulate) {            \
        pool::global_average(x, y, pixels, c, channels, accumulate);                             \
    }
GLOBAL_AVG_POOL(global_avg_pool_f32, float)
GLOBAL_AVG_POOL(global_avg_pool_bf16, bf16)

// A thread an element of dx.
#define GLOBAL_SPREAD(name, T)                                                                   \
    KERNEL(name, const T* dy, T* dx, int pixels, int c, int n, int accumulate) {                 \
        const int i = flat_index();                                                              \
        if (i < n) put(dx + i, load(dy + i / c / pixels * c + i % c) / (float)pixels, accumulate); \
    }
GLOBAL_SPREAD(global_spread_f32, float)
GLOBAL_SPREAD(global_spread_bf16, bf16)
