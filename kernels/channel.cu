// Images and one number a channel: scale, shift, sums a channel, and their spread over an image.
// Twin: src/ops/cuda/channel.rs.
//
// x, y: images of M pixels and C channels; c, C floats. Bound by memory: (64, 32, 32, 16) in float is 4 MiB to read and
// 4 MiB to write, 2.5 us at 3.35 TB/s, for one operation an element. Sums go in two steps: at most 256 blocks leave
// C floats each, which one block a channel adds in double precision, always in the same order.
#include "channels.cuh"

#define CHANNEL_KERNELS(suffix, T)                                                                        \
    /* y (+)= c x */                                                                                      \
    KERNEL(channel_scale_##suffix, const T* __restrict__ x, const float* __restrict__ c, T* __restrict__ y, \
           Walk walk, int accumulate) {                                                                   \
        map_channels<1>(                                                                                  \
            {x}, y, walk, accumulate, [=](int, int i) { return c[i]; },                                   \
            [](const float(&v)[1], const float(&p)[1]) { return p[0] * v[0]; });                          \
    }                                                                                                     \
    /* y (+)= x + c */                                                                                    \
    KERNEL(channel_shift_##suffix, const T* __restrict__ x, const float* __restrict__ c, T* __restrict__ y, \
           Walk walk, int accumulate) {                                                                   \
        map_channels<1>(                                                                                  \
            {x}, y, walk, accumulate, [=](int, int i) { return c[i]; },                                   \
            [](const float(&v)[1], const float(&p)[1]) { return v[0] + p[0]; });                          \
    }                                                                                                     \
    /* y (+)= c, which is of the image's type */                                                          \
    KERNEL(channel_broadcast_##suffix, const T* __restrict__ c, T* __restrict__ y, Walk walk,             \
           int accumulate) {                                                                              \
        Path<1> path(walk);                                                                               \
        for (int pixel = path.from; pixel < path.to; pixel += path.rows) {                                \
            size_t at = (size_t)pixel * (size_t)walk.channels + (size_t)path.channel;                     \
            put(y + at, load(c + path.channel), accumulate);                                              \
        }                                                                                                 \
    }                                                                                                     \
    /* parts of sum x x2 */                                                                               \
    KERNEL(channel_dot_parts_##suffix, const T* __restrict__ x, const T* __restrict__ x2,                 \
           float* __restrict__ parts, Walk walk) {                                                        \
        sum_channels<1, 1>(                                                                               \
            {x, x2}, parts, walk, [](int, int) { return 0.f; },                                           \
            [](const float(&v)[2], const float(&)[1], float(&t)[1]) { t[0] = v[0] * v[1]; });             \
    }                                                                                                     \
    /* parts of sum x */                                                                                  \
    KERNEL(channel_sum_parts_##suffix, const T* __restrict__ x, float* __restrict__ parts, Walk walk) {   \
        sum_channels<1, 1>(                                                                               \
            {x}, parts, walk, [](int, int) { return 0.f; },                                               \
            [](const float(&v)[1], const float(&)[1], float(&t)[1]) { t[0] = v[0]; });                    \
    }
CHANNEL_KERNELS(f32, float)
CHANNEL_KERNELS(bf16, bf16)

// Block c: y[c] (+)= the sum of the n parts.
KERNEL(channel_total_f32, const float* parts, float* y, int n, int accumulate) {
    __shared__ double scratch[32];
    int c = (int)blockIdx.x;
    double sum = total(parts, n, 0, 1, c, (int)gridDim.x, scratch);
    if (threadIdx.x == 0) put(y + c, (float)sum, accumulate);
}
