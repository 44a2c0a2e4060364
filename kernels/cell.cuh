// What the kernels of a search cell and of its preprocessing share: strips of pixels, windows, tiles of products, sums.
//
// Images are (N, H, W, C) with a pitch from one pixel to the next, so a node is read where it lies among the nodes side
// by side. Every thread of a convolution has a strip, four rows of one column of the result, and a quad, four
// neighbouring channels: a window that slides down a column reads each row once for all four results, and the lanes of
// a warp read neighbouring quads of neighbouring columns. A block has `quads` quads and 256 / quads strips.
//
// What a launch works on is an array of items by value, one a convolution, pool or state, chosen by the block's index.
// The items' Rust twins are in src/ops/cuda/cell/items.rs; sizes are asserted on both sides.
//
// Kernels come in two kinds: with every quad whole and aligned, and `_any`, which take channels of any number one by one.
#pragma once

#include "common.cuh"

#ifdef OCHE_EMULATED
#define BY_VALUE const
DEVICE float relu(float x) { return x < 0.f ? 0.f : x; }
template <class T>
DEVICE void advance(const T*& at, int step) {
    at += step;
}
DEVICE int this_thread() { return (int)threadIdx.x; }
#else
#define BY_VALUE const __grid_constant__
// Two blocks a multiprocessor: the compiler may use 128 registers, and would otherwise rather spill than take so many.
#undef KERNEL
#define KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256, 2) name(__VA_ARGS__)
// NaN stays NaN, unlike with fmaxf, in one instruction.
DEVICE float relu(float x) {
    float y;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
    return y;
}
// One pointer that moves, where the compiler would keep a pointer a step. It is told again that the memory is global:
// what comes out of the assembly could be anywhere, and would be read by generic loads.
template <class T>
DEVICE void advance(const T*& at, int step) {
    at += step;
    asm volatile("" : "+l"(at));
    __builtin_assume(__isGlobal(at));
}
// threadIdx.x, and with it what is computed from it, anew: nothing of that is kept in registers over a window's loop.
DEVICE int this_thread() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}
#endif

// Threads of a block.
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;
// Taps of a depthwise convolution that are staged at a time.
constexpr int TAPS = 49;

// Rows, columns.
struct Window {
    int16_t kernel[2], stride[2], padding[2], dilation[2];
};

// Images without their channels.
struct Images {
    int32_t n, h, w;
};

// ---- strips ---------------------------------------------------------------------------------------------------------

// Rows y .. y + 3, as far as there are so many, of column x.
struct Strip {
    int image, y, x, rows; // no rows: beyond the last strip
};

DEVICE Strip strip_at(Images all, int index) {
    int bands = (all.h + 3) / 4, column = index / all.w;
    Strip s;
    s.x = index - column * all.w;
    s.image = column / bands;
    s.y = 4 * (column - s.image * bands);
    s.rows = s.image < all.n ? min(4, all.h - s.y) : 0;
    return s;
}

// The strip and the quad of this thread, and the first of its channels, that of the block being c0.
struct Place {
    int strip, quad, channel;
    Strip at;
};

DEVICE Place this_place(Images all, int first_strip, int quads, int c0) {
    int thread = this_thread();
    Place p;
    p.strip = thread / quads, p.quad = thread % quads, p.channel = c0 + 4 * p.quad;
    p.at = strip_at(all, first_strip + p.strip);
    return p;
}

// Pixels of the strips before strip `index`, which may be one beyond the last.
DEVICE int pixels_before(Images all, int index) {
    int bands = (all.h + 3) / 4;
    index = min(index, all.n * bands * all.w);
    int column = index / all.w, image = column / bands, y = 4 * (column - image * bands);
    return (image * all.h + y) * all.w + (index - column * all.w) * min(4, all.h - y);
}

// Where pixel (y, x) of an image lies.
DEVICE size_t pixel_at(int h, int w, int image, int y, int x) { return ((size_t)image * h + y) * w + x; }

// ---- quads ----------------------------------------------------------------------------------------------------------

DEVICE vec4 zero4() { return {{0.f, 0.f, 0.f, 0.f}}; }

// Four channels, or as many of them as are `left`; the rest is zero.
template <bool WHOLE, class T>
DEVICE vec4 load_quad(const T* from, int left) {
    if constexpr (WHOLE) {
        return load4(from);
    } else {
        vec4 v = zero4();
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i < left) v.at[i] = load(from + i);
        return v;
    }
}
template <bool WHOLE, class T>
DEVICE void store_quad(T* to, vec4 v, int left) {
    if constexpr (WHOLE) {
        store4(to, v);
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i < left) store(to + i, v.at[i]);
    }
}
// The same of the taps of maxima.
template <bool WHOLE>
DEVICE unsigned load_taps(const uint8_t* from, int left) {
    if constexpr (WHOLE) {
        return *reinterpret_cast<const unsigned*>(from);
    } else {
        unsigned taps = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i < left) taps |= (unsigned)from[i] << (8 * i);
        return taps;
    }
}
template <bool WHOLE>
DEVICE void store_taps(uint8_t* to, unsigned taps, int left) {
    if constexpr (WHOLE) {
        *reinterpret_cast<unsigned*>(to) = taps;
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i < left) to[i] = (uint8_t)(taps >> (8 * i));
    }
}

// As memory of type T holds it.
DEVICE float as_stored(float x, const float*) { return x; }
DEVICE float as_stored(float x, const bf16*) {
    bf16 y;
    narrow(x, y);
    return widen(y);
}

// The sums over all threads of the block that have the same quad, in every one of them: `quads` is a power of two up to
// 16, thread t has quad t % quads. `scratch` holds WARPS * 4 * quads values and may be used again after a barrier.
DEVICE vec4 sum_of_quad(vec4 x, int quads, float* scratch) {
    for (int other = quads; other < 32; other <<= 1)
#pragma unroll
        for (int i = 0; i < 4; ++i) x.at[i] += __shfl_xor_sync(0xffffffffu, x.at[i], other);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, quad = (int)threadIdx.x % quads;
    if (lane < quads) store4(scratch + (warp * quads + lane) * 4, x);
    __syncthreads();
    vec4 sum = zero4();
#pragma unroll
    for (int from = 0; from < WARPS; ++from) {
        vec4 part = load4(scratch + (from * quads + quad) * 4);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum.at[i] += part.at[i];
    }
    return sum;
}

DEVICE void clear(float (&x)[4][4]) {
#pragma unroll
    for (int k = 0; k < 16; ++k) x[k / 4][k % 4] = 0.f;
}

// The sum over the segments of each of 16 channels, thread t being segment t / 16 of channel t % 16: in every thread.
DEVICE double sum_of_channel(double x, double* scratch) {
    __syncthreads();
    scratch[threadIdx.x] = x;
    __syncthreads();
    double sum = 0;
    for (int segment = 0; segment < 16; ++segment) sum += scratch[segment * 16 + threadIdx.x % 16];
    return sum;
}

// ---- windows --------------------------------------------------------------------------------------------------------

// How a window reads: as it is, through a relu, or through a norm and a relu.
enum Mode { PLAIN, RELU, NORM };

// A quad of an image as a window reads it.
template <class T>
struct Source {
    const T* image;
    int pitch, h, w, left;
    vec4 mean, r;
};

template <int MODE, class T>
DEVICE vec4 through(const Source<T>& s, vec4 v) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (MODE == NORM) v.at[i] = (v.at[i] - s.mean.at[i]) * s.r.at[i];
        if (MODE != PLAIN) v.at[i] = relu(v.at[i]);
    }
    return v;
}

// sum[q] += the window at row y + q, for windows of K rows, DILATION apart, and rows of the result that are STRIDE apart.
// Of the window's rows those from `first` on; `taps` are this quad's, a tap every `step` values.
template <int K, int DILATION, int STRIDE, int MODE, class T>
DEVICE void slide(const Source<T>& s, const Window& window, int first, const float* taps, int step, int y, int x,
                  float (&sum)[4][4]) {
    int top = y * STRIDE - window.padding[0] + first * DILATION, row = s.w * s.pitch;
    int left = x * window.stride[1] - window.padding[1];
#pragma unroll 1
    for (int kx = 0; kx < window.kernel[1]; ++kx) {
        int at = left + kx * window.dilation[1];
        if ((unsigned)at >= (unsigned)s.w) continue;
        const T* column = s.image + at * s.pitch + top * row;
        vec4 w[K];
#pragma unroll
        for (int ky = 0; ky < K; ++ky) w[ky] = load4(taps + ((first + ky) * window.kernel[1] + kx) * step);
#pragma unroll
        for (int j = 0; j < 3 * STRIDE + DILATION * (K - 1) + 1; ++j) {
            vec4 v = zero4();
            if ((unsigned)(top + j) < (unsigned)s.h) v = through<MODE>(s, load4(column));
            advance(column, row);
#pragma unroll
            for (int q = 0; q < 4; ++q) {
                int reach = j - STRIDE * q;
                if (reach < 0 || reach % DILATION != 0 || reach / DILATION >= K) continue;
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[q][i] = fmaf(w[reach / DILATION].at[i], v.at[i], sum[q][i]);
            }
        }
    }
}

// The same for any window, its taps `first` .. `last`, of which `taps` holds the first one first.
template <int MODE, bool WHOLE, class T>
DEVICE void slide_any(const Source<T>& s, const Window& window, const float* taps, int step, int first, int last,
                      int y, int x, float (&sum)[4][4]) {
    int ky = first / window.kernel[1], kx = first - ky * window.kernel[1];
#pragma unroll 1
    for (int tap = first; tap < last; ++tap) {
        int at = x * window.stride[1] - window.padding[1] + kx * window.dilation[1];
        int row = y * window.stride[0] - window.padding[0] + ky * window.dilation[0];
        vec4 w = load4(taps + (tap - first) * step);
        bool within = (unsigned)at < (unsigned)s.w;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            int yy = row + q * window.stride[0];
            if (!within || (unsigned)yy >= (unsigned)s.h) continue;
            vec4 v = through<MODE>(s, load_quad<WHOLE>(s.image + (yy * s.w + at) * s.pitch, s.left));
#pragma unroll
            for (int i = 0; i < 4; ++i) sum[q][i] = fmaf(w.at[i], v.at[i], sum[q][i]);
        }
        if (++kx == window.kernel[1]) kx = 0, ++ky;
    }
}

// to[tap - first][channel - c0] = weights[channel][tap] for taps `first` .. `first + count` and `width` channels, zero
// where there are none; the taps in reverse order if `flip`. Followed by a barrier.
DEVICE void stage_taps(const float* weights, int c, int c0, int width, int all, int first, int count, bool flip,
                       float* to) {
    for (int i = (int)threadIdx.x; i < count * width; i += THREADS) {
        int channel = i / count, tap = i - channel * count;
        int from = flip ? all - 1 - (first + tap) : first + tap;
        to[tap * width + channel] = c0 + channel < c ? weights[(c0 + channel) * all + from] : 0.f;
    }
    __syncthreads();
}

// ---- what a convolution reads ---------------------------------------------------------------------------------------

enum Kind { CONVOLUTION, MAXIMUM, AVERAGE };

// An image, its norm if there is one, and a depthwise convolution of relu of that, or the pixels as they are.
struct Operand {
    const void* x;
    const float* depth; // (c, taps), or null
    const float* stats; // rows mean and r of c values, or null
    Window window;
    int32_t pitch, c;
    int16_t h, w;
    int32_t kind; // of pools only `x`, `window`, `pitch`, `c`, `h` and `w` count
};
static_assert(sizeof(Operand) == 56, "as in Rust");

template <bool WHOLE, class T>
DEVICE Source<T> source_of(const Operand& in, int image, int channel) {
    Source<T> s;
    s.image = (const T*)in.x + pixel_at(in.h, in.w, image, 0, 0) * in.pitch + channel;
    s.pitch = in.pitch, s.h = in.h, s.w = in.w, s.left = in.c - channel;
    s.mean = s.r = zero4();
    if (in.stats) {
        s.mean = load_quad<WHOLE>(in.stats + channel, s.left);
        s.r = load_quad<WHOLE>(in.stats + in.c + channel, s.left);
    }
    return s;
}

// The windows that search spaces have, each with code of its own.
template <int MODE, class T>
DEVICE bool slide_known(const Source<T>& s, const Window& window, const float* taps, int step, const Strip& at,
                        float (&sum)[4][4]) {
    int kernel = window.kernel[0], dilation = window.dilation[0], stride = window.stride[0];
#define SLIDE(K, D, S, first) slide<K, D, S, MODE>(s, window, first, taps, step, at.y, at.x, sum)
#define KNOWN(K, D, S) \
    if (kernel == K && dilation == D && stride == S) return SLIDE(K, D, S, 0), true;
    KNOWN(3, 1, 1)
    KNOWN(5, 1, 1)
    KNOWN(7, 1, 1)
    if (MODE == NORM) return false; // a second half
    KNOWN(3, 2, 1)
    // in two parts: twelve rows and five weights at once are too many registers
    if (kernel == 5 && dilation == 2 && stride == 1) return SLIDE(3, 2, 1, 0), SLIDE(2, 2, 1, 3), true;
    if (MODE == PLAIN) return false; // strides are undone elsewhere
    KNOWN(3, 1, 2)
    KNOWN(5, 1, 2)
    KNOWN(3, 2, 2)
    KNOWN(5, 2, 2)
#undef KNOWN
#undef SLIDE
    return false;
}

// d[q] = the quad from `channel` on of what the convolution reads at row q of the strip. All threads of the block call
// this; they have the `width` channels from c0 on. `taps` has room for TAPS * width values, and nobody may be reading it.
template <class T, bool WHOLE>
DEVICE void read_operand(const Operand& in, const Strip& at, int c0, int width, int channel, float* taps,
                         float (&d)[4][4]) {
    bool active = at.rows > 0 && channel < in.c;
    Source<T> s = {};
    if (active) s = source_of<WHOLE, T>(in, at.image, channel);
    if (!in.depth) {
        int x = at.x * in.window.stride[1] - in.window.padding[1];
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            int y = (at.y + q) * in.window.stride[0] - in.window.padding[0];
            vec4 v = zero4();
            if (active && q < at.rows) v = load_quad<WHOLE>(s.image + (y * s.w + x) * s.pitch, s.left);
#pragma unroll
            for (int i = 0; i < 4; ++i) d[q][i] = relu(v.at[i]);
        }
        return;
    }
    clear(d);
    int all = in.window.kernel[0] * in.window.kernel[1];
    const float* own = taps + channel - c0;
    for (int first = 0; first < all; first += TAPS) {
        int count = min(TAPS, all - first);
        if (first > 0) __syncthreads();
        stage_taps(in.depth, in.c, c0, width, all, first, count, false, taps);
        if (!active) continue;
        if (in.stats) {
            if (WHOLE && count == all && slide_known<NORM>(s, in.window, own, width, at, d)) continue;
            slide_any<NORM, WHOLE>(s, in.window, own, width, first, first + count, at.y, at.x, d);
        } else {
            if (WHOLE && count == all && slide_known<RELU>(s, in.window, own, width, at, d)) continue;
            slide_any<RELU, WHOLE>(s, in.window, own, width, first, first + count, at.y, at.x, d);
        }
    }
}

// ---- products -------------------------------------------------------------------------------------------------------

// A tile of a product over TILE channels: TILE columns of the result for PIXELS pixels, four by four a thread. Threads
// read operands by strip and quad and multiply in the same places. The rows of `a`, one an inner channel, lie in an order
// in which a warp's stores meet no bank twice.
template <int TILE>
struct Tile {
    static constexpr int QUADS = TILE / 4, STRIPS = THREADS / QUADS, PIXELS = 4 * STRIPS;
    static constexpr int A_PITCH = PIXELS + (TILE == 16 ? 8 : 4), B_PITCH = TILE + 4;
    static constexpr int A = TILE * A_PITCH, B = TILE * B_PITCH;

    static DEVICE int row(int channel) { return channel % 4 * QUADS + channel / 4; }

    // Strip `strip`, quad `quad` of the left operand.
    static DEVICE void put(const float (&d)[4][4], int strip, int quad, float* a) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            store4(a + (i * QUADS + quad) * A_PITCH + 4 * strip, {{d[0][i], d[1][i], d[2][i], d[3][i]}});
    }

    // A thread's sixteen values out of its registers and back, `memory` being as large as `a`.
    static DEVICE void park(const float (&sum)[4][4], float* memory) {
#pragma unroll
        for (int k = 0; k < 16; ++k) memory[k * THREADS + threadIdx.x] = sum[k / 4][k % 4];
    }
    static DEVICE void fetch_parked(const float* memory, float (&sum)[4][4]) {
#pragma unroll
        for (int k = 0; k < 16; ++k) sum[k / 4][k % 4] = memory[k * THREADS + threadIdx.x];
    }

    // b[k][column] = from[k0 + k][column0 + column], of whose `rows` rows and `columns` columns each is that many values
    // after the one before; zero beyond.
    static DEVICE void fetch(const float* from, int k0, int rows, int row_step, int column0, int columns,
                             int column_step, float* b) {
        for (int i = (int)threadIdx.x; i < TILE * TILE; i += THREADS) {
            int fast = i % TILE, slow = i / TILE;
            int k = row_step == 1 ? fast : slow, column = row_step == 1 ? slow : fast;
            bool there = k0 + k < rows && column0 + column < columns;
            b[row(k) * B_PITCH + column] =
                there ? from[(k0 + k) * row_step + (column0 + column) * column_step] : 0.f;
        }
    }

    static DEVICE void multiply(const float* a, const float* b, int strip, int quad, float (&sum)[4][4]) {
#pragma unroll 4
        for (int k = 0; k < TILE; ++k) {
            vec4 x = load4(a + k * A_PITCH + 4 * strip), w = load4(b + k * B_PITCH + 4 * quad);
#pragma unroll
            for (int q = 0; q < 4; ++q)
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[q][i] = fmaf(x.at[q], w.at[i], sum[q][i]);
        }
    }
};

// ---- gradients through a norm ---------------------------------------------------------------------------------------

// The gradient of a value before its norm: dz = f0 g + f1 z + f2, the factors by channel.
struct Incoming {
    const void *g, *z;
    const float* factors; // three rows
    int32_t g_pitch, z_pitch, factors_pitch, c;
};
static_assert(sizeof(Incoming) == 40, "as in Rust");

// dz[q] = the quad from `channel` on at row q of the strip; zero where there is none.
template <class T, bool WHOLE>
DEVICE void read_incoming(const Incoming& in, Images all, const Strip& at, int channel, float (&dz)[4][4]) {
    int left = in.c - channel;
    vec4 factors[3] = {zero4(), zero4(), zero4()};
    if (left > 0)
#pragma unroll
        for (int k = 0; k < 3; ++k)
            factors[k] = load_quad<WHOLE>(in.factors + k * in.factors_pitch + channel, left);
    size_t pixel = pixel_at(all.h, all.w, at.image, at.y, at.x);
    const T* g = (const T*)in.g + pixel * in.g_pitch + channel;
    const T* z = (const T*)in.z + pixel * in.z_pitch + channel;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        bool there = left > 0 && q < at.rows;
        vec4 a = zero4(), b = zero4();
        if (there) a = load_quad<WHOLE>(g + q * all.w * in.g_pitch, left);
        if (there) b = load_quad<WHOLE>(z + q * all.w * in.z_pitch, left);
#pragma unroll
        for (int i = 0; i < 4; ++i)
            dz[q][i] = there ? fmaf(factors[0].at[i], a.at[i], fmaf(factors[1].at[i], b.at[i], factors[2].at[i]))
                             : 0.f;
    }
}
