// Gradients of a cell's weights, wanted only when a step is about weights: of all convolutions of a node at once.
// Twins: src/ops/cuda/cell/weights.rs, src/ops/cuda/preprocess.rs.
//
//   dw[co, ci] = sum over p of dz[p, co] D[p, ci]        1 x 1; dz as in cell_pull.cu, D as in cell_conv.cu, both made anew
//   dw[c, tap] = sum over p of dD[p, c] relu(norm(x[p + tap, c]))                                                depthwise
//
// Each is a sum over parts of the pixels in one launch, and the total of the parts, in order and double precision, in
// another. An item reads 3 N H W C values, 12 MB at 64 x 32 x 32 x 16 in float, and does N H W C (C + taps) multiply-adds
// for the 1 x 1 weights; 2 N H W C values and N H W C taps multiply-adds for the depthwise ones.
#include "cell.cuh"

struct PointItem {
    Operand from;   // D
    Incoming grads; // dz
    float* parts;   // (parts, co, ci)
};
static_assert(sizeof(PointItem) == 104, "as in Rust");

struct Points {
    Images out;
    int32_t rounds; // of strips a block goes through
    int32_t count, unused;
    PointItem at[38];
};
static_assert(sizeof(Points) <= 4096, "parameters of a kernel");

// Grid: (parts, tiles of co times tiles of ci, items). A thread sums four by four products, over every `SLICES`-th pixel.
template <class T, int TILE, bool WHOLE>
DEVICE void point(const Points& launch) {
    using Of = Tile<TILE>;
    constexpr int PITCH = TILE + 4, SLICES = THREADS / (Of::QUADS * Of::QUADS);
    __shared__ __align__(16) float inputs[Of::PIXELS * PITCH];
    __shared__ __align__(16) float grads[Of::PIXELS * PITCH > SLICES * TILE * TILE ? Of::PIXELS * PITCH
                                                                                     : SLICES * TILE * TILE];
    __shared__ __align__(16) float taps[TAPS * TILE];
    const PointItem& item = launch.at[blockIdx.z];
    int ci = item.from.c, co = item.grads.c, tiles = (ci + TILE - 1) / TILE;
    int ci0 = (int)blockIdx.y % tiles * TILE, co0 = (int)blockIdx.y / tiles * TILE;
    if (co0 >= co) return;
    float sum[4][4];
    clear(sum);
#pragma unroll 1
    for (int round = 0; round < launch.rounds; ++round) {
        int first = ((int)blockIdx.x * launch.rounds + round) * Of::STRIPS;
        if (round > 0) {
            __syncthreads();
            Of::park(sum, grads);
        }
        float d[4][4];
        Place read = this_place(launch.out, first, Of::QUADS, ci0);
        read_operand<T, WHOLE>(item.from, read.at, ci0, TILE, read.channel, taps, d);
        if (round > 0) {
            Of::fetch_parked(grads, sum);
            __syncthreads();
        }
        Place own = this_place(launch.out, first, Of::QUADS, co0);
        // the image may have rows where the strip has none
#pragma unroll
        for (int q = 0; q < 4; ++q)
            store4(inputs + (4 * own.strip + q) * PITCH + 4 * own.quad, {{d[q][0], d[q][1], d[q][2], d[q][3]}});
        read_incoming<T, WHOLE>(item.grads, launch.out, own.at, own.channel, d);
#pragma unroll
        for (int q = 0; q < 4; ++q)
            store4(grads + (4 * own.strip + q) * PITCH + 4 * own.quad, {{d[q][0], d[q][1], d[q][2], d[q][3]}});
        __syncthreads();
        int thread = this_thread(), left = thread % Of::QUADS, right = thread / Of::QUADS % Of::QUADS;
#pragma unroll 4
        for (int p = thread / (Of::QUADS * Of::QUADS); p < Of::PIXELS; p += SLICES) {
            vec4 x = load4(inputs + p * PITCH + 4 * left), g = load4(grads + p * PITCH + 4 * right);
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[j][i] = fmaf(g.at[j], x.at[i], sum[j][i]);
        }
    }
    __syncthreads();
    int thread = this_thread(), left = thread % Of::QUADS, right = thread / Of::QUADS % Of::QUADS;
    int slice = thread / (Of::QUADS * Of::QUADS);
#pragma unroll
    for (int j = 0; j < 4; ++j)
        store4(grads + (slice * TILE + 4 * right + j) * TILE + 4 * left, {{sum[j][0], sum[j][1], sum[j][2], sum[j][3]}});
    __syncthreads();
    float* to = item.parts + (size_t)blockIdx.x * co * ci;
    for (int i = thread; i < TILE * TILE; i += THREADS) {
        int o = co0 + i / TILE, k = ci0 + i % TILE;
        float total = 0.f;
#pragma unroll
        for (int from = 0; from < SLICES; ++from) total += grads[from * TILE * TILE + i];
        if (o < co && k < ci) to[o * ci + k] = total;
    }
}

#define POINT(name, T, TILE, WHOLE) \
    KERNEL(name, BY_VALUE Points launch) { point<T, TILE, WHOLE>(launch); }
POINT(cell_point_16_f32, float, 16, true)
POINT(cell_point_32_f32, float, 32, true)
POINT(cell_point_64_f32, float, 64, true)
POINT(cell_point_any_f32, float, 16, false)
POINT(cell_point_16_bf16, bf16, 16, true)
POINT(cell_point_32_bf16, bf16, 32, true)
POINT(cell_point_64_bf16, bf16, 64, true)
POINT(cell_point_any_bf16, bf16, 16, false)

// ---- depthwise ------------------------------------------------------------------------------------------------------

struct DepthItem {
    Operand from;      // x, its norm and window
    const void* grads; // dD, dense
    float* parts;      // (parts, taps, c)
};
static_assert(sizeof(DepthItem) == 72, "as in Rust");

struct Depths {
    Images out;
    int32_t rounds, quads, count;
    DepthItem at[48];
};
static_assert(sizeof(Depths) <= 4096, "parameters of a kernel");

// The quad of dD at row q of the strip; zero where there is none.
template <class T, bool WHOLE>
DEVICE void read_grads(const DepthItem& item, Images out, const Strip& at, int channel, float (&g)[4][4]) {
    int c = item.from.c;
    const T* from = (const T*)item.grads + pixel_at(out.h, out.w, at.image, at.y, at.x) * c + channel;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        vec4 v = zero4();
        if (q < at.rows && channel < c) v = load_quad<WHOLE>(from + q * out.w * c, c - channel);
#pragma unroll
        for (int i = 0; i < 4; ++i) g[q][i] = v.at[i];
    }
}

// What a block works on.
struct DepthBlock {
    Images out;
    int first, rounds, quads, c0;
};

// A column of the window: sums[ky] over the strips of this thread.
template <int K, int DILATION, int STRIDE, int MODE, class T>
DEVICE void column(const DepthItem& item, const DepthBlock& block, int kx, vec4 (&sums)[K]) {
    const Window& window = item.from.window;
#pragma unroll
    for (int ky = 0; ky < K; ++ky) sums[ky] = zero4();
    int lanes = THREADS / block.quads;
#pragma unroll 1
    for (int round = 0; round < block.rounds; ++round) {
        Place own = this_place(block.out, block.first + round * lanes, block.quads, block.c0);
        int x = own.at.x * window.stride[1] - window.padding[1] + kx * window.dilation[1];
        if (own.at.rows == 0 || own.channel >= item.from.c || (unsigned)x >= (unsigned)item.from.w) continue;
        float g[4][4];
        read_grads<T, true>(item, block.out, own.at, own.channel, g);
        Source<T> s = source_of<true, T>(item.from, own.at.image, own.channel);
        int top = own.at.y * STRIDE - window.padding[0], row = s.w * s.pitch;
        const T* at = s.image + x * s.pitch + top * row;
#pragma unroll
        for (int j = 0; j < 3 * STRIDE + DILATION * (K - 1) + 1; ++j) {
            vec4 v = zero4();
            if ((unsigned)(top + j) < (unsigned)s.h) v = through<MODE>(s, load4(at));
            advance(at, row);
#pragma unroll
            for (int q = 0; q < 4; ++q) {
                int reach = j - STRIDE * q;
                if (reach < 0 || reach % DILATION != 0 || reach / DILATION >= K) continue;
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    sums[reach / DILATION].at[i] = fmaf(g[q][i], v.at[i], sums[reach / DILATION].at[i]);
            }
        }
    }
}

// The sum over the block of what each thread has of a tap, to the parts.
DEVICE void write_tap(const DepthItem& item, const DepthBlock& block, int tap, vec4 sum, float* scratch) {
    __syncthreads();
    sum = sum_of_quad(sum, block.quads, scratch);
    int thread = this_thread(), channel = block.c0 + 4 * (thread % block.quads), c = item.from.c;
    if (thread >= block.quads) return;
    int taps = item.from.window.kernel[0] * item.from.window.kernel[1];
    float* to = item.parts + ((size_t)blockIdx.x * taps + tap) * c + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (channel + i < c) to[i] = sum.at[i];
}

template <int K, int DILATION, int STRIDE, int MODE, class T>
DEVICE void columns(const DepthItem& item, const DepthBlock& block, float* scratch) {
    int width = item.from.window.kernel[1];
#pragma unroll 1
    for (int kx = 0; kx < width; ++kx) {
        vec4 sums[K];
        column<K, DILATION, STRIDE, MODE, T>(item, block, kx, sums);
#pragma unroll
        for (int ky = 0; ky < K; ++ky) write_tap(item, block, ky * width + kx, sums[ky], scratch);
    }
}

// Any window, tap by tap.
template <int MODE, class T, bool WHOLE>
DEVICE void any_taps(const DepthItem& item, const DepthBlock& block, float* scratch) {
    const Window& window = item.from.window;
    int lanes = THREADS / block.quads;
#pragma unroll 1
    for (int ky = 0; ky < window.kernel[0]; ++ky)
#pragma unroll 1
        for (int kx = 0; kx < window.kernel[1]; ++kx) {
            vec4 sum = zero4();
#pragma unroll 1
            for (int round = 0; round < block.rounds; ++round) {
                Place own = this_place(block.out, block.first + round * lanes, block.quads, block.c0);
                int x = own.at.x * window.stride[1] - window.padding[1] + kx * window.dilation[1];
                if (own.at.rows == 0 || own.channel >= item.from.c || (unsigned)x >= (unsigned)item.from.w)
                    continue;
                float g[4][4];
                read_grads<T, WHOLE>(item, block.out, own.at, own.channel, g);
                Source<T> s = source_of<WHOLE, T>(item.from, own.at.image, own.channel);
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    int y = (own.at.y + q) * window.stride[0] - window.padding[0] + ky * window.dilation[0];
                    if ((unsigned)y >= (unsigned)s.h) continue;
                    vec4 v = through<MODE>(s, load_quad<WHOLE>(s.image + (y * s.w + x) * s.pitch, s.left));
#pragma unroll
                    for (int i = 0; i < 4; ++i) sum.at[i] = fmaf(g[q][i], v.at[i], sum.at[i]);
                }
            }
            write_tap(item, block, ky * window.kernel[1] + kx, sum, scratch);
        }
}

// Grid: (parts, channels, items).
template <class T, bool WHOLE>
DEVICE void depth(const Depths& launch) {
    __shared__ __align__(16) float scratch[WARPS * 64];
    const DepthItem& item = launch.at[blockIdx.z];
    int quads = launch.quads;
    DepthBlock block = {launch.out, (int)blockIdx.x * launch.rounds * (THREADS / quads), launch.rounds, quads,
                        (int)blockIdx.y * 4 * quads};
    const Window& window = item.from.window;
    int kernel = window.kernel[0], dilation = window.dilation[0], stride = window.stride[0];
#define KNOWN(K, D, S, MODE) \
    if (WHOLE && kernel == K && dilation == D && stride == S) return columns<K, D, S, MODE, T>(item, block, scratch);
    if (item.from.stats) {
        KNOWN(3, 1, 1, NORM)
        KNOWN(5, 1, 1, NORM)
        KNOWN(7, 1, 1, NORM)
        return any_taps<NORM, T, WHOLE>(item, block, scratch);
    }
    KNOWN(3, 1, 1, RELU)
    KNOWN(5, 1, 1, RELU)
    KNOWN(7, 1, 1, RELU)
    KNOWN(3, 2, 1, RELU)
    KNOWN(5, 2, 1, RELU)
    KNOWN(3, 1, 2, RELU)
    KNOWN(5, 1, 2, RELU)
    KNOWN(3, 2, 2, RELU)
    KNOWN(5, 2, 2, RELU)
#undef KNOWN
    any_taps<RELU, T, WHOLE>(item, block, scratch);
}

#define DEPTH(name, T, WHOLE) \
    KERNEL(name, BY_VALUE Depths launch) { depth<T, WHOLE>(launch); }
DEPTH(cell_depth_f32, float, true)
DEPTH(cell_depth_any_f32, float, false)
DEPTH(cell_depth_bf16, bf16, true)
DEPTH(cell_depth_any_bf16, bf16, false)

// ---- totals ---------------------------------------------------------------------------------------------------------

struct TotalItem {
    const float* parts; // (parts, count)
    float* to;
    int32_t count, parts_count;
    int32_t channels; // of a depthwise weight, whose parts are (taps, channels) and which is (channels, taps); or 0
    int32_t accumulate;
};
static_assert(sizeof(TotalItem) == 32, "as in Rust");

struct Totals {
    int64_t count;
    TotalItem at[120];
};
static_assert(sizeof(Totals) <= 4096, "parameters of a kernel");

// A thread an element.
KERNEL(cell_totals_f32, BY_VALUE Totals launch) {
    const TotalItem& item = launch.at[blockIdx.y];
    int i = flat_index();
    if (i >= item.count) return;
    double total = 0;
#pragma unroll 8
    for (int part = 0; part < item.parts_count; ++part) total += (double)item.parts[(size_t)part * item.count + i];
    int to = i;
    if (item.channels > 0) to = i % item.channels * (item.count / item.channels) + i / item.channels;
    put(item.to + to, (float)total, item.accumulate);
}
