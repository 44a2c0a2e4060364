// The gradient of an image from all that read it: depthwise convolutions undone, pools, identities, and what it had before.
// Twin: src/ops/cuda/cell/backward.rs.
//
//   dx[p] = before[p] + (x[p] > 0) (sum over convolutions and taps of dw[tap] dD[p - tap] + sum over skips of dD)
//         + sum over pools of what their windows over p took from p + sum over identities of W g[p]
//
// A target is a state, which everything that reads it passes a gradient to, or a value between two halves, to which one
// convolution does. There x is the normed value, and sum dx and sum dx (z - mean) of the block's pixels are left behind
// for the norm. Every gradient is read where it is needed and the target is written once.
//
// Grid: (strips / strips of a block, channels, targets). For K parts a target of N x H x W pixels of C channels reads
// (K + 2) N H W C values and writes as many as it has; N H W C taps multiply-adds a convolution.
#include "cell.cuh"

// What a part is of. Of the first two the sum is masked by x > 0.
enum Part { DEPTHWISE, PIXELS, MAXIMA, SHARES, IDENTITY };

struct GatherPart {
    const void* from; // an image of h x w
    const void* with; // depthwise weights (c, taps), taps of maxima, or W by channel
    Window window;    // that took the target's image to this one
    int32_t pitch;
    int16_t h, w;
    int32_t kind, unused;
};
static_assert(sizeof(GatherPart) == 48, "as in Rust");

struct GatherTarget {
    const void* x;
    const float* stats; // rows mean and r of the norm of x, or null
    const void* before; // or null
    void* to;           // dense, of h x w
    float* sums;        // (blocks, 2, c), or null
    int32_t x_pitch, before_pitch;
    int16_t h, w;
    int16_t first, masked, count; // parts; the masked ones first
    int16_t unused[3];
};
static_assert(sizeof(GatherTarget) == 64, "as in Rust");

struct Gathers {
    int32_t n, c, quads, count;
    GatherPart part[56];
    GatherTarget at[20];
};
static_assert(sizeof(Gathers) <= 4096, "parameters of a kernel");

// The place among rows (columns) of a strided window's results that `from` is, or a negative number.
DEVICE int undo_stride(int from, int stride) {
    if (stride == 1) return from;
    if (stride == 2) return from & 1 ? -1 : from >> 1;
    return from < 0 || from % stride != 0 ? -1 : from / stride;
}

// sum[q] += what the windows over row y + q, column x took through taps `first` .. `last`.
template <int PART, bool WHOLE, class T>
DEVICE void take_back(const GatherPart& part, const Strip& at, int c, int channel, const float* taps, int step,
                      int first, int last, float (&sum)[4][4]) {
    const Window& window = part.window;
    int left = c - channel;
    size_t image = pixel_at(part.h, part.w, at.image, 0, 0);
    const T* from = (const T*)part.from + image * part.pitch + channel;
    const uint8_t* winners = (const uint8_t*)part.with + image * c + channel;
    int ky = first / window.kernel[1], kx = first - ky * window.kernel[1];
#pragma unroll 1
    for (int tap = first; tap < last; ++tap) {
        int x = undo_stride(at.x + window.padding[1] - kx * window.dilation[1], window.stride[1]);
        int row = at.y + window.padding[0] - ky * window.dilation[0];
        if (++kx == window.kernel[1]) kx = 0, ++ky;
        if ((unsigned)x >= (unsigned)part.w) continue;
        vec4 w = {{1.f, 1.f, 1.f, 1.f}};
        if (PART == DEPTHWISE) w = load4(taps + (tap - first) * step);
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            int y = undo_stride(row + q, window.stride[0]);
            if ((unsigned)y >= (unsigned)part.h) continue;
            vec4 v = load_quad<WHOLE>(from + (y * part.w + x) * part.pitch, left);
            unsigned winner = PART == MAXIMA ? load_taps<WHOLE>(winners + (y * part.w + x) * c, left) : 0u;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (PART == MAXIMA && (winner >> (8 * i) & 255u) != (unsigned)tap) continue;
                sum[q][i] = fmaf(w.at[i], v.at[i], sum[q][i]);
            }
        }
    }
}

template <class T, bool WHOLE>
DEVICE void take_back_depthwise(const GatherPart& part, const Strip& at, int c, int c0, int width, int channel,
                                float* taps, float (&sum)[4][4]) {
    Window window = part.window;
    int all = window.kernel[0] * window.kernel[1];
    bool active = at.rows > 0 && channel < c;
    // without a stride it is a convolution itself, with the taps the other way round
    bool plain = window.stride[0] == 1 && window.stride[1] == 1 && all <= TAPS;
    if (plain)
#pragma unroll
        for (int axis = 0; axis < 2; ++axis)
            window.padding[axis] =
                (int16_t)(window.dilation[axis] * (window.kernel[axis] - 1) - window.padding[axis]);
    const float* own = taps + channel - c0;
    for (int first = 0; first < all; first += TAPS) {
        int count = min(TAPS, all - first);
        __syncthreads(); // others may still be reading the taps of the part before
        stage_taps((const float*)part.with, c, c0, width, all, first, count, plain, taps);
        if (!active) continue;
        if (!plain) {
            take_back<DEPTHWISE, WHOLE, T>(part, at, c, channel, own, width, first, first + count, sum);
            continue;
        }
        Source<T> s = {};
        s.image = (const T*)part.from + pixel_at(part.h, part.w, at.image, 0, 0) * part.pitch + channel;
        s.pitch = part.pitch, s.h = part.h, s.w = part.w, s.left = c - channel;
        if (WHOLE && slide_known<PLAIN>(s, window, own, width, at, sum)) continue;
        slide_any<PLAIN, WHOLE>(s, window, own, width, first, first + count, at.y, at.x, sum);
    }
}

// Zeroes what x, or its norm, does not let through; leaves x less its mean in `x`.
template <class T, bool WHOLE>
DEVICE void mask(const GatherTarget& target, const Strip& at, int c, int channel, float (&sum)[4][4],
                 float (&x)[4][4]) {
    vec4 mean = zero4(), r = {{1.f, 1.f, 1.f, 1.f}};
    if (target.stats) {
        mean = load_quad<WHOLE>(target.stats + channel, c - channel);
        r = load_quad<WHOLE>(target.stats + c + channel, c - channel);
    }
    const T* from = (const T*)target.x +
                    pixel_at(target.h, target.w, at.image, at.y, at.x) * target.x_pitch + channel;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        vec4 v = zero4();
        if (q < at.rows) v = load_quad<WHOLE>(from + q * target.w * target.x_pitch, c - channel);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            x[q][i] = v.at[i] - mean.at[i];
            sum[q][i] = x[q][i] * r.at[i] > 0.f ? sum[q][i] : 0.f;
        }
    }
}

template <class T, bool WHOLE>
DEVICE void add_open(const GatherPart& part, Images all, const Strip& at, int c, int channel, float (&sum)[4][4]) {
    int taps = part.window.kernel[0] * part.window.kernel[1];
    if (part.kind == MAXIMA)
        return take_back<MAXIMA, WHOLE, T>(part, at, c, channel, nullptr, 0, 0, taps, sum);
    if (part.kind == SHARES)
        return take_back<SHARES, WHOLE, T>(part, at, c, channel, nullptr, 0, 0, taps, sum);
    int left = c - channel;
    vec4 w = load_quad<WHOLE>((const float*)part.with + channel, left);
    const T* from =
        (const T*)part.from + pixel_at(all.h, all.w, at.image, at.y, at.x) * part.pitch + channel;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        vec4 v = zero4();
        if (q < at.rows) v = load_quad<WHOLE>(from + q * all.w * part.pitch, left);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[q][i] = fmaf(w.at[i], v.at[i], sum[q][i]);
    }
}

// The sums over the block's pixels of `g`, and of `g` times what `x` has.
DEVICE void write_sums(const float (&g)[4][4], const float (&x)[4][4], int rows, int quads, int c, int channel,
                       float* to, float* scratch) {
    vec4 sum = zero4(), product = zero4();
#pragma unroll
    for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (q >= rows) continue;
            sum.at[i] += g[q][i];
            product.at[i] = fmaf(g[q][i], x[q][i], product.at[i]);
        }
    sum = sum_of_quad(sum, quads, scratch);
    __syncthreads();
    product = sum_of_quad(product, quads, scratch);
    if ((int)threadIdx.x >= quads) return;
    to += (size_t)blockIdx.x * 2 * c + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (channel + i < c) to[i] = sum.at[i], to[c + i] = product.at[i];
}

template <class T, bool WHOLE>
DEVICE void gather(const Gathers& launch) {
    __shared__ __align__(16) float taps[TAPS * 64];
    const GatherTarget& target = launch.at[blockIdx.z];
    int quads = launch.quads, width = 4 * quads, c = launch.c, c0 = (int)blockIdx.y * width;
    Images all = {launch.n, target.h, target.w};
    int first = (int)blockIdx.x * (THREADS / quads);
    if (first >= all.n * ((all.h + 3) / 4) * all.w) return;

    float sum[4][4];
    clear(sum);
#pragma unroll 1
    for (int k = 0; k < target.masked; ++k) {
        const GatherPart& part = launch.part[target.first + k];
        Place own = this_place(all, first, quads, c0);
        if (part.kind == DEPTHWISE)
            take_back_depthwise<T, WHOLE>(part, own.at, c, c0, width, own.channel, taps, sum);
        else if (own.at.rows > 0 && own.channel < c)
            take_back<PIXELS, WHOLE, T>(part, own.at, c, own.channel, nullptr, 0, 0, 1, sum);
    }
    Place own = this_place(all, first, quads, c0);
    int left = c - own.channel;
    bool active = own.at.rows > 0 && left > 0;
    float x[4][4];
    clear(x);
    if (active && target.masked > 0) mask<T, WHOLE>(target, own.at, c, own.channel, sum, x);
    if (active)
#pragma unroll 1
        for (int k = target.masked; k < target.count; ++k)
            add_open<T, WHOLE>(launch.part[target.first + k], all, own.at, c, own.channel, sum);
    size_t pixel = pixel_at(all.h, all.w, own.at.image, own.at.y, own.at.x);
    T* to = (T*)target.to + pixel * c + own.channel;
    const T* before = (const T*)target.before + pixel * target.before_pitch + own.channel;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        if (!active || q >= own.at.rows) continue;
        vec4 v = {{sum[q][0], sum[q][1], sum[q][2], sum[q][3]}};
        if (target.before) {
            vec4 was = load_quad<WHOLE>(before + q * all.w * target.before_pitch, left);
#pragma unroll
            for (int i = 0; i < 4; ++i) v.at[i] += was.at[i];
        }
        store_quad<WHOLE>(to + q * all.w * c, v, left);
    }
    if (!target.sums) return;
    __syncthreads(); // `taps` becomes scratch
    write_sums(sum, x, active ? own.at.rows : 0, quads, c, own.channel, target.sums, taps);
}

#define GATHER(name, T, WHOLE) \
    KERNEL(name, BY_VALUE Gathers launch) { gather<T, WHOLE>(launch); }
GATHER(cell_gather_f32, float, true)
GATHER(cell_gather_any_f32, float, false)
GATHER(cell_gather_bf16, bf16, true)
GATHER(cell_gather_any_bf16, bf16, false)
