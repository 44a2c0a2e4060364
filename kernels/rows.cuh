// Rows of a matrix of floats, a warp a row, in double precision: softmax and cross entropy, whose rows are short.
#pragma once
#include "common.cuh"

// This thread's row of a grid with a warp a row.
DEVICE int warp_row() { return flat_index() / 32; }
DEVICE int warp_lane() { return (int)threadIdx.x % 32; }

// The largest of row x of k, in every lane; of a NaN and a number, either.
DEVICE double row_max(const float* x, int k) {
    double largest = -INFINITY;
    for (int i = warp_lane(); i < k; i += 32) largest = largest > (double)x[i] ? largest : (double)x[i];
    for (int other = 16; other > 0; other >>= 1) {
        double theirs = __shfl_xor_sync(0xffffffffu, largest, other);
        largest = largest > theirs ? largest : theirs;
    }
    return largest;
}

// sum exp(x - max), in every lane; NaN if any x is.
DEVICE double row_sum_exp(const float* x, int k, double max) {
    double sum = 0;
    for (int i = warp_lane(); i < k; i += 32) sum += exp((double)x[i] - max);
    return warp_sum(sum);
}

// <a, b>, in every lane.
DEVICE double row_dot(const float* a, const float* b, int k) {
    double sum = 0;
    for (int i = warp_lane(); i < k; i += 32) sum += (double)a[i] * (double)b[i];
    return warp_sum(sum);
}
