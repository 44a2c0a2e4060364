// Softmax over rows of k numbers and its derivatives. Twin: src/ops/cuda/softmax.rs.
//
//   p = exp(x - max)/sum;  dx = p (g - <p, g>);  d/dp of <v, dx> = v (g - <p, g>) - g <p, v>
//
// All are (rows, k) floats: architecture weights (14 x 8) and logits (64 x 10), a few KiB and some thousand operations,
// so a launch is all they cost.
#include "rows.cuh"

KERNEL(softmax_f32, const float* x, float* y, int rows, int k, int accumulate) {
    int row = warp_row();
    if (row >= rows) return;
    x += (size_t)row * k, y += (size_t)row * k;
    double max = row_max(x, k), sum = row_sum_exp(x, k, max);
    for (int i = warp_lane(); i < k; i += 32) put(y + i, (float)(exp((double)x[i] - max) / sum), accumulate);
}

KERNEL(softmax_grad_f32, const float* p, const float* g, float* y, int rows, int k, int accumulate) {
    int row = warp_row();
    if (row >= rows) return;
    p += (size_t)row * k, g += (size_t)row * k, y += (size_t)row * k;
    double pg = row_dot(p, g, k);
    for (int i = warp_lane(); i < k; i += 32)
        put(y + i, (float)((double)p[i] * ((double)g[i] - pg)), accumulate);
}

KERNEL(softmax_grad_grad_f32, const float* p, const float* g, const float* v, float* y, int rows, int k,
       int accumulate) {
    int row = warp_row();
    if (row >= rows) return;
    p += (size_t)row * k, g += (size_t)row * k, v += (size_t)row * k, y += (size_t)row * k;
    double pg = row_dot(p, g, k), pv = row_dot(p, v, k);
    for (int i = warp_lane(); i < k; i += 32)
        put(y + i, (float)((double)v[i] * ((double)g[i] - pg) - (double)g[i] * pv), accumulate);
}
