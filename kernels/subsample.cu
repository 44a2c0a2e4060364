// Strided slices of images, x[:, o::s, o::s, :], and their transpose. Twin: src/ops/cuda/subsample.rs.
//
// Copies: what is taken is read and written once; the transpose also writes zeros. (64, 32, 32, 16) to (64, 16, 16, 16)
// moves 2 MiB in float, less than a launch takes.
#include "common.cuh"

// Extents of the large and the small image, and the slice.
struct Slice {
    int H, W, h, w, C, stride, offset;
};

#define SUBSAMPLE_KERNELS(suffix, T)                                                                      \
    /* n elements of the small image y (+)= those of x */                                                 \
    KERNEL(subsample_##suffix, const T* x, T* y, Slice s, int n, int accumulate) {                        \
        int i = flat_index();                                                                             \
        if (i >= n) return;                                                                               \
        int c = i % s.C, pixel = i / s.C;                                                                 \
        int column = pixel % s.w * s.stride + s.offset;                                                   \
        int row = pixel / s.w % s.h * s.stride + s.offset;                                                \
        size_t from = ((size_t)(pixel / s.w / s.h) * s.H + row) * s.W + column;                           \
        put(y + i, load(x + from * s.C + c), accumulate);                                                 \
    }                                                                                                     \
    /* n elements of the large image y (+)= those of g, or 0 where none was taken */                      \
    KERNEL(subsample_grad_##suffix, const T* g, T* y, Slice s, int n, int accumulate) {                   \
        int i = flat_index();                                                                             \
        if (i >= n) return;                                                                               \
        int c = i % s.C, pixel = i / s.C;                                                                 \
        int column = pixel % s.W - s.offset, row = pixel / s.W % s.H - s.offset;                          \
        bool taken = column >= 0 && row >= 0 && column % s.stride == 0 && row % s.stride == 0;            \
        if (taken) {                                                                                      \
            size_t from = ((size_t)(pixel / s.W / s.H) * s.h + row / s.stride) * s.w + column / s.stride; \
            put(y + i, load(g + from * s.C + c), accumulate);                                             \
        } else if (!accumulate) {                                                                         \
            store(y + i, 0.f);                                                                            \
        }                                                                                                 \
    }
SUBSAMPLE_KERNELS(f32, float)
SUBSAMPLE_KERNELS(bf16, bf16)
