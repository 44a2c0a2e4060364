// Elementwise operations and the inner product. Twin: src/ops/cuda/pointwise.rs.
//
// All are bound by memory: two or three values of 4 (2) bytes an element, at most one operation on them. A thread an
// element; neighbouring threads touch neighbouring elements.
#include "common.cuh"

// y[i] (+)= expression of a = x[i], b = x2[i]
#define UNARY(name, T, expression)                                                        \
    KERNEL(name, const T* x, T* y, int n, int accumulate) {                               \
        int i = flat_index();                                                             \
        if (i >= n) return;                                                               \
        float a = load(x + i);                                                            \
        put(y + i, expression, accumulate);                                               \
    }
#define BINARY(name, T, expression)                                                       \
    KERNEL(name, const T* x, const T* x2, T* y, int n, int accumulate) {                  \
        int i = flat_index();                                                             \
        if (i >= n) return;                                                               \
        float a = load(x + i), b = load(x2 + i);                                          \
        put(y + i, expression, accumulate);                                               \
    }

UNARY(copy_f32, float, a)
UNARY(copy_bf16, bf16, a)
BINARY(add_f32, float, a + b)
BINARY(add_bf16, bf16, a + b)
BINARY(sub_f32, float, a - b)
BINARY(sub_bf16, bf16, a - b)
BINARY(mul_f32, float, a * b)
BINARY(mul_bf16, bf16, a * b)
// NaN stays NaN, as on the CPU
UNARY(relu_f32, float, a < 0.f ? 0.f : a)
UNARY(relu_bf16, bf16, a < 0.f ? 0.f : a)
// (g, x)
BINARY(relu_grad_f32, float, b > 0.f ? a : 0.f)
BINARY(relu_grad_bf16, bf16, b > 0.f ? a : 0.f)

#define SCALE(name, T)                                                                    \
    KERNEL(name, const T* x, T* y, float c, int n, int accumulate) {                      \
        int i = flat_index();                                                             \
        if (i < n) put(y + i, c * load(x + i), accumulate);                               \
    }
SCALE(scale_f32, float)
SCALE(scale_bf16, bf16)

// y = s x for the one element s, which is float
#define SCALE_BY(name, T)                                                                 \
    KERNEL(name, const T* x, const float* s, T* y, int n, int accumulate) {               \
        int i = flat_index();                                                             \
        if (i < n) put(y + i, *s * load(x + i), accumulate);                              \
    }
SCALE_BY(scale_by_f32, float)
SCALE_BY(scale_by_bf16, bf16)

// Block b: the sum of x x2 over elements b span .. (b + 1) span, in double precision.
#define DOT_PARTS(name, T)                                                                \
    KERNEL(name, const T* x, const T* x2, double* parts, int n, int span) {               \
        __shared__ double scratch[32];                                                    \
        int from = (int)blockIdx.x * span, to = min(from + span, n);                      \
        double sum = 0;                                                                   \
        for (int i = from + (int)threadIdx.x; i < to; i += (int)blockDim.x)               \
            sum += (double)load(x + i) * (double)load(x2 + i);                            \
        sum = block_sum(sum, scratch);                                                    \
        if (threadIdx.x == 0) parts[blockIdx.x] = sum;                                    \
    }
DOT_PARTS(dot_parts_f32, float)
DOT_PARTS(dot_parts_bf16, bf16)

// One block: y (+)= the sum of the parts.
KERNEL(dot_total_f32, const double* parts, float* y, int n, int accumulate) {
    __shared__ double scratch[32];
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) sum += parts[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) put(y, (float)sum, accumulate);
}
