// Gradients through norms and 1 x 1 convolutions: of all values of a node, or of all values between two halves, at once.
// Twins: src/ops/cuda/cell/backward.rs, src/ops/cuda/preprocess.rs.
//
//   dD[p, ci] = sum over co of w[co, ci] dz[p, co],  dz = f0 g + f1 z + f2  by channel (see cell_sums.cu)
//
// dz is made where it is read and goes to memory only for a pool, which has no convolution: there dz itself is added up
// over the nodes that read the pool, of an average divided by the taps inside the image.
//
// Where there is no depthwise convolution either, dx = (x > 0) dD goes to its pixels, every stride-th one from an offset on.
//
// Grid: (strips / strips of a block, channels / TILE, items). An item reads 2 N H W C values and writes N H W C, 12 MB at
// 64 x 32 x 32 x 16 in float, and does N H W C (C + 2) multiply-adds, 19 M.
#include "cell.cuh"

enum Flags { ACCUMULATE = 1, SHARED = 2 };

struct PullItem {
    Incoming from;
    const float* point; // (co, ci), or null: dz as it is
    void* to;
    const void* mask; // x, where it and `to` are the same size, or null
    Window window;    // of an average
    int32_t to_pitch;
    int16_t columns;
    int16_t h, w; // of the images of `to`, or of those that the average was taken of
    int16_t stride, offset;
    int16_t flags;
};
static_assert(sizeof(PullItem) == 96, "as in Rust");

struct Pulls {
    Images out;
    int32_t count;
    PullItem at[40];
};
static_assert(sizeof(Pulls) <= 4096, "parameters of a kernel");

// Taps of the window at row y, column x that lie in an image of h x w.
DEVICE int taps_inside(const Window& window, int h, int w, int y, int x) {
    int rows = 0, columns = 0;
    for (int k = 0; k < window.kernel[0]; ++k)
        rows += (unsigned)(y * window.stride[0] - window.padding[0] + k * window.dilation[0]) < (unsigned)h;
    for (int k = 0; k < window.kernel[1]; ++k)
        columns += (unsigned)(x * window.stride[1] - window.padding[1] + k * window.dilation[1]) < (unsigned)w;
    return rows * columns;
}

template <class T, bool WHOLE>
DEVICE void write_pulled(const PullItem& item, Images out, const Place& own, const float (&d)[4][4]) {
    int left = item.columns - own.channel;
    if (left <= 0) return;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        if (q >= own.at.rows) break;
        int y = (own.at.y + q) * item.stride + item.offset, x = own.at.x * item.stride + item.offset;
        int h = item.flags & SHARED ? out.h : item.h, w = item.flags & SHARED ? out.w : item.w;
        size_t to = pixel_at(h, w, own.at.image, y, x) * item.to_pitch + own.channel;
        vec4 v = {{d[q][0], d[q][1], d[q][2], d[q][3]}};
        if (item.flags & SHARED) {
            float share = 1.f / (float)taps_inside(item.window, item.h, item.w, y, x);
#pragma unroll
            for (int i = 0; i < 4; ++i) v.at[i] *= share;
        }
        if (item.mask) {
            vec4 open = load_quad<WHOLE>((const T*)item.mask + to, left);
#pragma unroll
            for (int i = 0; i < 4; ++i) v.at[i] = open.at[i] > 0.f ? v.at[i] : 0.f;
        }
        if (item.flags & ACCUMULATE) {
            vec4 before = load_quad<WHOLE>((const T*)item.to + to, left);
#pragma unroll
            for (int i = 0; i < 4; ++i) v.at[i] += before.at[i];
        }
        store_quad<WHOLE>((T*)item.to + to, v, left);
    }
}

template <class T, int TILE, bool WHOLE>
DEVICE void pull(const Pulls& launch) {
    using Of = Tile<TILE>;
    __shared__ __align__(16) float a[Of::A];
    __shared__ __align__(16) float b[Of::B];
    const PullItem& item = launch.at[blockIdx.z];
    int c0 = (int)blockIdx.y * TILE, inner = item.from.c;
    if (c0 >= item.columns) return;
    Place own = this_place(launch.out, (int)blockIdx.x * Of::STRIPS, Of::QUADS, c0);
    float d[4][4];
    if (!item.point) {
        read_incoming<T, WHOLE>(item.from, launch.out, own.at, own.channel, d);
    } else {
        clear(d);
        for (int k0 = 0; k0 < inner; k0 += TILE) {
            float dz[4][4];
            read_incoming<T, WHOLE>(item.from, launch.out, own.at, k0 + 4 * own.quad, dz);
            if (k0 > 0) __syncthreads();
            Of::put(dz, own.strip, own.quad, a);
            Of::fetch(item.point, k0, inner, item.columns, c0, item.columns, 1, b);
            __syncthreads();
            Of::multiply(a, b, own.strip, own.quad, d);
        }
    }
    write_pulled<T, WHOLE>(item, launch.out, own, d);
}

#define PULL(name, T, TILE, WHOLE) \
    KERNEL(name, BY_VALUE Pulls launch) { pull<T, TILE, WHOLE>(launch); }
PULL(cell_pull_16_f32, float, 16, true)
PULL(cell_pull_32_f32, float, 32, true)
PULL(cell_pull_64_f32, float, 64, true)
PULL(cell_pull_any_f32, float, 16, false)
PULL(cell_pull_16_bf16, bf16, 16, true)
PULL(cell_pull_32_bf16, bf16, 32, true)
PULL(cell_pull_64_bf16, bf16, 64, true)
PULL(cell_pull_any_bf16, bf16, 16, false)
