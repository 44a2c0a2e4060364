// One factor an image, and the inner product of each image. Twin: src/ops/cuda/image_scale.rs.
//
//   y_n = s_n x_n          y_n = sum a_n b_n
//
// x, a, b: n images of `size` elements; s and the sums: n floats. Bound by memory: 8 (4) bytes an element. A thread an
// element, or a block an image.
#include "common.cuh"

#define IMAGE_SCALE(name, T)                                                              \
    KERNEL(name, const T* x, const float* s, T* y, int size, int n, int accumulate) {     \
        int i = flat_index();                                                             \
        if (i < n) put(y + i, s[i / size] * load(x + i), accumulate);                     \
    }
IMAGE_SCALE(image_scale_f32, float)
IMAGE_SCALE(image_scale_bf16, bf16)

#define IMAGE_DOT(name, T)                                                                \
    KERNEL(name, const T* a, const T* b, float* y, int size, int accumulate) {            \
        __shared__ double scratch[32];                                                    \
        size_t from = (size_t)blockIdx.x * size;                                          \
        double sum = 0;                                                                   \
        for (int i = (int)threadIdx.x; i < size; i += (int)blockDim.x)                    \
            sum += (double)load(a + from + i) * (double)load(b + from + i);               \
        sum = block_sum(sum, scratch);                                                    \
        if (threadIdx.x == 0) put(y + blockIdx.x, (float)sum, accumulate);                \
    }
IMAGE_DOT(image_dot_f32, float)
IMAGE_DOT(image_dot_bf16, bf16)
