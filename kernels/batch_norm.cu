// Batch normalisation of M pixels a channel, without its affine part. Twin: src/ops/cuda/batch_norm.rs.
//
//   m, s2: mean and biased variance; r = 1/sqrt(s2 + eps); z = (x - m) r
//   y = z;  dx = r (g - sum(g)/M - z sum(g z)/M);  the derivative of that in x: see src/ops/batch_norm.rs
//
// x, g, v, y: images (M, C); stats: floats (3, C), rows m, r and s2. Each operation is a pass of partial sums, one block
// a channel that adds them in double precision in one order, and a pass that writes the result. Bound by memory: the
// inputs twice and the result once, 12 (20, 28) bytes an element in float for 7 (10, 20) operations: (64, 32, 32, 16) in
// 4 (6, 9) us at 3.35 TB/s, less what the second pass finds in the cache.
#include "channels.cuh"

// With the first pixel for a shift s, parts[b] = the mean of x - s over the block's pixels, the sum of squares of x about
// that mean, and s: values of the size of the deviation, so that nothing cancels.
template <int W, class T>
DEVICE void moments(const T* x, float* parts, const Walk& walk) {
    __shared__ float scratch[256 * W];
    Path<W> path(walk);
    size_t column = (size_t)path.channel;
    bool idle = path.channel >= walk.channels;
    int start = (int)blockIdx.x * walk.span;
    float count = (float)(min(start + walk.span, walk.pixels) - start);
    Few<W> shift = {};
    if (!idle) shift = load_few<W>(x + column);
    float mean[W] = {}, square[W] = {};
#pragma unroll 4
    for (int pixel = path.from; pixel < path.to; pixel += path.rows) {
        Few<W> in = load_few<W>(x + (size_t)pixel * (size_t)walk.channels + column);
#pragma unroll
        for (int w = 0; w < W; ++w) mean[w] += in.at[w] - shift.at[w];
    }
    sum_rows<W>(mean, scratch, path);
#pragma unroll
    for (int w = 0; w < W; ++w) mean[w] /= count;
#pragma unroll 4
    for (int pixel = path.from; pixel < path.to; pixel += path.rows) {
        Few<W> in = load_few<W>(x + (size_t)pixel * (size_t)walk.channels + column);
#pragma unroll
        for (int w = 0; w < W; ++w) {
            float apart = in.at[w] - shift.at[w] - mean[w];
            square[w] = fmaf(apart, apart, square[w]);
        }
    }
    sum_rows<W>(square, scratch, path);
    if (path.row != 0 || idle) return;
#pragma unroll
    for (int w = 0; w < W; ++w) {
        part(parts, 0, 3, path, walk)[w] = mean[w];
        part(parts, 1, 3, path, walk)[w] = square[w];
        part(parts, 2, 3, path, walk)[w] = shift.at[w];
    }
}

// z of v[last], with p[0] = mean and p[1] = r
#define Z(v, p, last) ((v[last] - p[0]) * p[1])
// rows of `stats`, then of `more`
#define ROWS(stats, more) [=](int k, int c) { return k < 2 ? stats[k * C + c] : more[(k - 2) * C + c]; }

#define BATCH_NORM_KERNELS(suffix, T)                                                                            \
    KERNEL(batch_norm_parts_##suffix, const T* __restrict__ x, float* __restrict__ parts, Walk walk) {           \
        if (walk.vectors)                                                                                        \
            moments<4>(x, parts, walk);                                                                          \
        else                                                                                                     \
            moments<1>(x, parts, walk);                                                                          \
    }                                                                                                            \
    /* y (+)= z */                                                                                               \
    KERNEL(batch_norm_##suffix, const T* __restrict__ x, const float* __restrict__ stats, T* __restrict__ y,     \
           Walk walk, int accumulate) {                                                                          \
        int C = walk.channels;                                                                                   \
        map_channels<2>(                                                                                         \
            {x}, y, walk, accumulate, [=](int k, int c) { return stats[k * C + c]; },                            \
            [](const float(&v)[1], const float(&p)[2]) { return Z(v, p, 0); });                                  \
    }                                                                                                            \
    /* parts of sum g, sum g z */                                                                                \
    KERNEL(batch_norm_grad_parts_##suffix, const T* __restrict__ g, const T* __restrict__ x,                     \
           const float* __restrict__ stats, float* __restrict__ parts, Walk walk) {                              \
        int C = walk.channels;                                                                                   \
        sum_channels<2, 2>(                                                                                      \
            {g, x}, parts, walk, [=](int k, int c) { return stats[k * C + c]; },                                 \
            [](const float(&v)[2], const float(&p)[2], float(&t)[2]) {                                           \
                t[0] = v[0];                                                                                     \
                t[1] = v[0] * Z(v, p, 1);                                                                        \
            });                                                                                                  \
    }                                                                                                            \
    /* y (+)= r (g - a_0 - z a_1) */                                                                             \
    KERNEL(batch_norm_grad_##suffix, const T* __restrict__ g, const T* __restrict__ x,                           \
           const float* __restrict__ stats, const float* __restrict__ a, T* __restrict__ y, Walk walk,           \
           int accumulate) {                                                                                     \
        int C = walk.channels;                                                                                   \
        map_channels<4>({g, x}, y, walk, accumulate, ROWS(stats, a),                                             \
                        [](const float(&v)[2], const float(&p)[4]) {                                             \
                            return p[1] * (v[0] - p[2] - Z(v, p, 1) * p[3]);                                     \
                        });                                                                                      \
    }                                                                                                            \
    /* parts of sum v, sum v z, sum g, sum g z, sum v g */                                                       \
    KERNEL(batch_norm_grad_grad_parts_##suffix, const T* __restrict__ v, const T* __restrict__ g,                \
           const T* __restrict__ x, const float* __restrict__ stats, float* __restrict__ parts, Walk walk) {     \
        int C = walk.channels;                                                                                   \
        sum_channels<2, 5>(                                                                                      \
            {v, g, x}, parts, walk, [=](int k, int c) { return stats[k * C + c]; },                              \
            [](const float(&v)[3], const float(&p)[2], float(&t)[5]) {                                           \
                float z = Z(v, p, 2);                                                                            \
                t[0] = v[0];                                                                                     \
                t[1] = v[0] * z;                                                                                 \
                t[2] = v[1];                                                                                     \
                t[3] = v[1] * z;                                                                                 \
                t[4] = v[0] * v[1];                                                                              \
            });                                                                                                  \
    }                                                                                                            \
    /* y (+)= a_0 v + a_1 g + a_2 + a_3 z */                                                                     \
    KERNEL(batch_norm_grad_grad_##suffix, const T* __restrict__ v, const T* __restrict__ g,                      \
           const T* __restrict__ x, const float* __restrict__ stats, const float* __restrict__ a,                \
           T* __restrict__ y, Walk walk, int accumulate) {                                                       \
        int C = walk.channels;                                                                                   \
        map_channels<6>({v, g, x}, y, walk, accumulate, ROWS(stats, a),                                          \
                        [](const float(&v)[3], const float(&p)[6]) {                                             \
                            return v[0] * p[2] + v[1] * p[3] + (p[4] + p[5] * Z(v, p, 2));                       \
                        });                                                                                      \
    }                                                                                                            \
    /* y (+)= g r, r the second row of `stats` */                                                                \
    KERNEL(normalise_grad_##suffix, const T* __restrict__ g, const float* __restrict__ stats,                    \
           T* __restrict__ y, Walk walk, int accumulate) {                                                       \
        int C = walk.channels;                                                                                   \
        map_channels<1>(                                                                                         \
            {g}, y, walk, accumulate, [=](int, int c) { return stats[C + c]; },                                  \
            [](const float(&v)[1], const float(&p)[1]) { return v[0] * p[0]; });                                 \
    }
BATCH_NORM_KERNELS(f32, float)
BATCH_NORM_KERNELS(bf16, bf16)

// Block c: the statistics of channel c from n parts of `span` pixels, the last of which may be shorter:
// sum of squares about the mean = sum_b (squares_b + count_b (mean_b - mean)^2), Chan et al.
KERNEL(batch_norm_total_f32, const float* parts, float* stats, int n, int pixels, int span, double epsilon) {
    __shared__ double scratch[32];
    int c = (int)blockIdx.x, C = (int)gridDim.x;
    double sum = 0;
    for (int b = (int)threadIdx.x; b < n; b += (int)blockDim.x) {
        double count = min(span, pixels - b * span);
        sum += count * (double)parts[(size_t)(3 * b) * (size_t)C + (size_t)c];
    }
    double mean = block_sum(sum, scratch) / pixels, square = 0;
    for (int b = (int)threadIdx.x; b < n; b += (int)blockDim.x) {
        double count = min(span, pixels - b * span);
        double apart = (double)parts[(size_t)(3 * b) * (size_t)C + (size_t)c] - mean;
        square += (double)parts[(size_t)(3 * b + 1) * (size_t)C + (size_t)c] + count * apart * apart;
    }
    double variance = block_sum(square, scratch) / pixels;
    if (threadIdx.x != 0) return;
    stats[c] = (float)(mean + (double)parts[2 * C + c]);
    stats[C + c] = (float)(1.0 / sqrt(variance + epsilon));
    stats[2 * C + c] = (float)variance;
}

// Block c: a = sum(g)/M, sum(g z)/M.
KERNEL(batch_norm_grad_total_f32, const float* parts, float* a, int n, int pixels) {
    __shared__ double scratch[32];
    int c = (int)blockIdx.x, C = (int)gridDim.x;
    double g = total(parts, n, 0, 2, c, C, scratch), gz = total(parts, n, 1, 2, c, C, scratch);
    if (threadIdx.x != 0) return;
    a[c] = (float)(g / pixels);
    a[C + c] = (float)(gz / pixels);
}

// Block c: the factors a of v, g, 1 and z.
KERNEL(batch_norm_grad_grad_total_f32, const float* parts, const float* stats, float* a, int n, int pixels) {
    __shared__ double scratch[32];
    int c = (int)blockIdx.x, C = (int)gridDim.x;
    double v = total(parts, n, 0, 5, c, C, scratch), vz = total(parts, n, 1, 5, c, C, scratch);
    double g = total(parts, n, 2, 5, c, C, scratch), gz = total(parts, n, 3, 5, c, C, scratch);
    double vg = total(parts, n, 4, 5, c, C, scratch);
    if (threadIdx.x != 0) return;
    double r = (double)stats[C + c], share = 1.0 / pixels;
    double q = vg - v * g * share - vz * gz * share;
    double of_v = -r * share * gz, of_g = -r * share * vz;
    double u = of_v * v + of_g * g, uz = of_v * vz + of_g * gz;
    a[c] = (float)(r * of_v);
    a[C + c] = (float)(r * of_g);
    a[2 * C + c] = (float)(-r * u * share);
    a[3 * C + c] = (float)(-q * r * r * share - r * uz * share);
}

// stats = rows mean, 1/sqrt(variance + eps) and variance of c channels
KERNEL(fixed_statistics_f32, const float* mean, const float* variance, float* stats, double epsilon, int c) {
    int i = flat_index();
    if (i >= c) return;
    stats[i] = mean[i];
    stats[c + i] = (float)(1.0 / sqrt((double)variance[i] + epsilon));
    stats[2 * c + i] = variance[i];
}
