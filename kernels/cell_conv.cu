// The values of candidates: convolutions and pools of all that reads a state, each with the moments of its channels.
// Twin: src/ops/cuda/cell/forward.rs, and src/ops/cuda/preprocess.rs for convolutions of 1 x 1.
//
//   z[p, co] = sum over ci of w[co, ci] D[p, ci],  D[p, ci] = sum over taps of dw[ci, tap] relu(norm(x[p + tap, ci]))
//
// D is computed TILE channels at a time into shared memory and multiplied from there: neither it nor relu and norm go to
// memory. A pool is the same without the product. Behind it, from the registers, the mean and the sum of squares about it
// of every channel over the block's pixels, which `cell_statistics` merges (Chan et al., 1979).
//
// Grid: (strips / strips of a block, channels / TILE, items). For N x H x W pixels of C channels an item reads and writes
// N H W C values, 4 + 4 MB at 64 x 32 x 32 x 16 in float, and does N H W C (C + taps) multiply-adds, 42 M at 5 x 5.
#include "cell.cuh"

struct ConvItem {
    Operand in;
    const void* with; // (cout, c) of a convolution; where a maximum's taps go
    void* z;
    float* moments; // rows mean, squares about it and count a block, or null
    int32_t z_pitch;
    int16_t cout, moments_pitch;
};
static_assert(sizeof(ConvItem) == 88, "as in Rust");

struct Convs {
    Images out;
    int32_t count;
    ConvItem at[40];
};
static_assert(sizeof(Convs) <= 4096, "parameters of a kernel");

// z[q] = the pool at row q of the strip; of a maximum the taps go to memory. A row at a time, in few registers: `scratch`
// keeps a thread's sixteen values.
template <class T, bool WHOLE>
DEVICE void pool(const ConvItem& item, Images all, const Strip& at, int channel, float* scratch, float (&z)[4][4]) {
    const Operand& in = item.in;
    const Window& window = in.window;
    Source<T> s = source_of<WHOLE, T>(in, at.image, channel);
    int left = at.x * window.stride[1] - window.padding[1];
    float* own = scratch + threadIdx.x;
#pragma unroll 1
    for (int q = 0; q < at.rows; ++q) {
        int top = (at.y + q) * window.stride[0] - window.padding[0], inside = 0;
        vec4 best = {{-INFINITY, -INFINITY, -INFINITY, -INFINITY}}, sum = zero4();
        unsigned from[4] = {0, 0, 0, 0};
        for (int ky = 0; ky < window.kernel[0]; ++ky) {
            int y = top + ky * window.dilation[0];
            if ((unsigned)y >= (unsigned)s.h) continue;
            for (int kx = 0; kx < window.kernel[1]; ++kx) {
                int x = left + kx * window.dilation[1];
                if ((unsigned)x >= (unsigned)s.w) continue;
                vec4 v = load_quad<WHOLE>(s.image + (y * s.w + x) * s.pitch, s.left);
                unsigned tap = (unsigned)(ky * window.kernel[1] + kx);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    // the first of equals, and of all the first tap; NaN wins over every number
                    bool wins = inside == 0 || v.at[i] > best.at[i] || v.at[i] != v.at[i];
                    if (wins) best.at[i] = v.at[i], from[i] = tap;
                    sum.at[i] += v.at[i];
                }
                ++inside;
            }
        }
        bool maximum = in.kind == MAXIMUM;
        float share = 1.f / (float)inside;
#pragma unroll
        for (int i = 0; i < 4; ++i) own[(4 * q + i) * THREADS] = maximum ? best.at[i] : sum.at[i] * share;
        if (maximum) {
            size_t to = pixel_at(all.h, all.w, at.image, at.y + q, at.x) * in.c + channel;
            store_taps<WHOLE>((uint8_t*)item.with + to, from[0] | from[1] << 8 | from[2] << 16 | from[3] << 24,
                              s.left);
        }
    }
#pragma unroll
    for (int q = 0; q < 4; ++q)
        if (q < at.rows)
#pragma unroll
            for (int i = 0; i < 4; ++i) z[q][i] = own[(4 * q + i) * THREADS];
}

// Mean and sum of squares about it over the block's `count` pixels, of which this thread has the first `rows` of `z`.
DEVICE void write_moments(const float (&z)[4][4], int rows, int quads, float count, int channel, const ConvItem& item,
                          float* scratch) {
    vec4 sum = zero4(), squares = zero4();
#pragma unroll
    for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum.at[i] += q < rows ? z[q][i] : 0.f;
    vec4 mean = sum_of_quad(sum, quads, scratch);
#pragma unroll
    for (int i = 0; i < 4; ++i) mean.at[i] /= count;
#pragma unroll
    for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float off = q < rows ? z[q][i] - mean.at[i] : 0.f;
            squares.at[i] = fmaf(off, off, squares.at[i]);
        }
    __syncthreads();
    squares = sum_of_quad(squares, quads, scratch);
    if ((int)threadIdx.x >= quads) return;
    float* to = item.moments + (size_t)blockIdx.x * 3 * item.moments_pitch + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (channel + i >= item.cout) break;
        to[i] = mean.at[i];
        to[item.moments_pitch + i] = squares.at[i];
        to[2 * item.moments_pitch + i] = count;
    }
}

template <class T, int TILE, bool WHOLE>
DEVICE void values(const Convs& launch) {
    using Of = Tile<TILE>;
    __shared__ __align__(16) float a[Of::A];
    __shared__ __align__(16) float b[Of::B];
    __shared__ __align__(16) float taps[TAPS * TILE];
    const ConvItem& item = launch.at[blockIdx.z];
    int c0 = (int)blockIdx.y * TILE;
    if (c0 >= item.cout) return;
    int first = (int)blockIdx.x * Of::STRIPS;
    float z[4][4];
    clear(z);
    if (item.in.kind != CONVOLUTION) {
        Place own = this_place(launch.out, first, Of::QUADS, c0);
        if (own.at.rows > 0 && own.channel < item.cout) pool<T, WHOLE>(item, launch.out, own.at, own.channel, a, z);
    } else {
        for (int k0 = 0; k0 < item.in.c; k0 += TILE) {
            // sums of channels before these wait in memory, or there would be no registers for the window
            if (k0 > 0) __syncthreads(), Of::park(z, a);
            Place read = this_place(launch.out, first, Of::QUADS, k0);
            float d[4][4];
            read_operand<T, WHOLE>(item.in, read.at, k0, TILE, read.channel, taps, d);
            if (k0 > 0) Of::fetch_parked(a, z), __syncthreads();
            else clear(z);
            Place own = this_place(launch.out, first, Of::QUADS, 0);
            Of::put(d, own.strip, own.quad, a);
            Of::fetch((const float*)item.with, k0, item.in.c, 1, c0, item.cout, item.in.c, b);
            __syncthreads();
            Of::multiply(a, b, own.strip, own.quad, z);
        }
    }
    Place own = this_place(launch.out, first, Of::QUADS, c0);
    T* to = (T*)item.z + pixel_at(launch.out.h, launch.out.w, own.at.image, own.at.y, own.at.x) * item.z_pitch +
            own.channel;
    int left = item.cout - own.channel;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
#pragma unroll
        for (int i = 0; i < 4; ++i) z[q][i] = as_stored(z[q][i], to);
        if (q < own.at.rows && left > 0)
            store_quad<WHOLE>(to + (size_t)q * launch.out.w * item.z_pitch, {{z[q][0], z[q][1], z[q][2], z[q][3]}}, left);
    }
    if (!item.moments) return;
    int count = pixels_before(launch.out, first + Of::STRIPS) - pixels_before(launch.out, first);
    __syncthreads(); // `a` becomes scratch
    write_moments(z, own.at.rows, Of::QUADS, (float)count, own.channel, item, a);
}

#define VALUES(name, T, TILE, WHOLE) \
    KERNEL(name, BY_VALUE Convs launch) { values<T, TILE, WHOLE>(launch); }
VALUES(cell_conv_16_f32, float, 16, true)
VALUES(cell_conv_32_f32, float, 32, true)
VALUES(cell_conv_64_f32, float, 64, true)
VALUES(cell_conv_any_f32, float, 16, false)
VALUES(cell_conv_16_bf16, bf16, 16, true)
VALUES(cell_conv_32_bf16, bf16, 32, true)
VALUES(cell_conv_64_bf16, bf16, 64, true)
VALUES(cell_conv_any_bf16, bf16, 16, false)
