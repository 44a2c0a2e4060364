// Optimisers, norms and gathering on flat buffers. Twin: src/nn/cuda.rs.
//
// All are bound by memory: 4 bytes a value read or written once. Numbers that change from step to step come from
// addresses, so that a captured step sees the new ones; an address of 0 stands for the value that is given beside it.
#include "common.cuh"

DEVICE double number(const double* stored, double known) { return stored ? *stored : known; }

// What to multiply a gradient of this norm by so that it is at most `limit` (0: no limit).
DEVICE double clip_factor(double norm, double limit) {
    return limit > 0 ? fmin(limit / (norm + 1e-6), 1.0) : 1.0;
}

// Block b: the sum of squares of elements b span .. (b + 1) span.
KERNEL(squares_f32, const float* g, double* parts, int n, int span) {
    __shared__ double scratch[32];
    int from = (int)blockIdx.x * span, to = min(from + span, n);
    double sum = 0;
    for (int i = from + (int)threadIdx.x; i < to; i += (int)blockDim.x) sum += (double)g[i] * (double)g[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// One block: the square root of the sum of the parts.
KERNEL(norm_f64, const double* parts, double* norm, int n) {
    __shared__ double scratch[32];
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) sum += parts[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *norm = sqrt(sum);
}

// m = mu m + c g + wd w;  w -= lr m
KERNEL(sgd_f32, float* w, float* m, const float* g, const double* stored_rate, double rate,
       const double* stored_norm, double norm, double limit, float mu, float wd, int n) {
    int i = flat_index();
    if (i >= n) return;
    float lr = (float)number(stored_rate, rate);
    float clip = (float)clip_factor(number(stored_norm, norm), limit);
    float moved = mu * m[i] + (clip * g[i] + wd * w[i]);
    m[i] = moved;
    w[i] -= lr * moved;
}

// to = w - lr (mu m + g + wd w)
KERNEL(virtual_step_f32, float* to, const float* w, const float* m, const float* g, const double* stored_rate,
       double rate, float mu, float wd, int n) {
    int i = flat_index();
    if (i >= n) return;
    float lr = (float)number(stored_rate, rate);
    to[i] = w[i] - lr * (mu * m[i] + g[i] + wd * w[i]);
}

// A factor made of a constant and a number that the device knows: a s, a / s or 1 / (2 a / s), and 0 for s = 0 where it
// divides.
DEVICE float factor(int form, double a, const double* stored, double known) {
    double s = number(stored, known);
    if (form == 0) return (float)(a * s);
    if (s == 0) return 0.f;
    return (float)(form == 1 ? a / s : 1.0 / (2.0 * (a / s)));
}

// to = w + c v
KERNEL(plus_scaled_f32, float* to, const float* w, const float* v, int form, double a, const double* stored,
       double known, int n) {
    int i = flat_index();
    if (i < n) to[i] = w[i] + factor(form, a, stored, known) * v[i];
}

// to = (p - m) c
KERNEL(difference_f32, float* to, const float* p, const float* m, int form, double a, const double* stored,
       double known, int n) {
    int i = flat_index();
    if (i < n) to[i] = (p[i] - m[i]) * factor(form, a, stored, known);
}

struct Adam {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// Adam with L2 weight decay; c1 and c2 are the corrections 1 - beta^t.
KERNEL(adam_f32, float* x, const float* g, float* first, float* second, Adam adam, const double* stored_c1, double c1,
       const double* stored_c2, double c2, int n) {
    int i = flat_index();
    if (i >= n) return;
    c1 = number(stored_c1, c1);
    c2 = number(stored_c2, c2);
    double d = (double)g[i] + adam.weight_decay * (double)x[i];
    double m = adam.beta1 * (double)first[i] + (1.0 - adam.beta1) * d;
    double v = adam.beta2 * (double)second[i] + (1.0 - adam.beta2) * d * d;
    first[i] = (float)m;
    second[i] = (float)v;
    x[i] -= (float)(adam.learning_rate / c1 * m / (sqrt(v) / sqrt(c2) + adam.epsilon));
}

// Up to 128 tensors to their places in a flat buffer; row y of the grid copies part y.
struct Gather {
    const float* from[128];
    int start[128], count[128];
};
static_assert(sizeof(Gather) == 128 * 16, "as the twin has it");

KERNEL(gather_f32, float* to, Gather parts) {
    int part = (int)blockIdx.y, count = parts.count[part];
    const float* from = parts.from[part];
    for (int i = flat_index(); i < count; i += (int)(gridDim.x * blockDim.x)) to[parts.start[part] + i] = from[i];
}

// Running statistics of `norms` norms of c channels, one after the other, towards those of a batch, rows mean, r and
// biased variance a norm: old = keep old + momentum new.
KERNEL(running_update_f32, float* means, float* variances, const float* stats, int norms, int c, double momentum,
       double unbiased) {
    int i = flat_index();
    if (i >= norms * c) return;
    const float* row = stats + (size_t)(i / c) * 3 * c + i % c;
    means[i] = (float)((1.0 - momentum) * (double)means[i] + momentum * (double)row[0]);
    variances[i] = (float)((1.0 - momentum) * (double)variances[i] + momentum * ((double)row[2 * c] * unbiased));
}

// The other way round: rows mean, r and variance from running statistics.
KERNEL(running_rows_f32, const float* means, const float* variances, float* rows, int norms, int c, double epsilon) {
    int i = flat_index();
    if (i >= norms * c) return;
    float* row = rows + (size_t)(i / c) * 3 * c + i % c;
    row[0] = means[i];
    row[c] = (float)(1.0 / sqrt((double)variances[i] + epsilon));
    row[2 * c] = variances[i];
}
