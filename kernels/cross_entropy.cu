// Mean cross entropy of logits and labels. Twin: src/ops/cuda/cross_entropy.rs.
//
//   L = mean over rows of log sum_i exp x_i - x_label
//
// x: (rows, k) floats; labels: rows of uint32. A label that is no class has a loss of NaN, since nobody can be told here.
// Some thousand operations: a launch is all it costs.
#include "rows.cuh"

// losses[row], a warp a row
KERNEL(cross_entropy_rows_f32, const float* x, const uint32_t* labels, double* losses, int rows, int k) {
    int row = warp_row();
    if (row >= rows) return;
    x += (size_t)row * k;
    double max = row_max(x, k), sum = row_sum_exp(x, k, max);
    if (warp_lane() != 0) return;
    uint32_t label = labels[row];
    losses[row] = label < (uint32_t)k ? log(sum) + max - (double)x[label] : (double)__int_as_float(0x7fc00000);
}

// One block: y (+)= the mean of the losses.
KERNEL(cross_entropy_f32, const double* losses, float* y, int rows, int accumulate) {
    __shared__ double scratch[32];
    double sum = 0;
    for (int row = (int)threadIdx.x; row < rows; row += (int)blockDim.x) sum += losses[row];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) put(y, (float)(sum / rows), accumulate);
}

// y (+)= rows of 0 with 1 at the label
KERNEL(one_hot_f32, const uint32_t* labels, float* y, int k, int n, int accumulate) {
    int i = flat_index();
    if (i < n) put(y + i, labels[i / k] == (uint32_t)(i % k) ? 1.f : 0.f, accumulate);
}
