// y = value, for constants that a captured step cannot copy from the host.
#include "common.cuh"

KERNEL(fill_f32, float* y, float value, int n) {
    int i = flat_index();
    if (i < n) y[i] = value;
}
KERNEL(fill_bf16, bf16* y, float value, int n) {
    int i = flat_index();
    if (i < n) store(y + i, value);
}
KERNEL(fill_f64, double* y, float value, int n) {
    int i = flat_index();
    if (i < n) y[i] = value;
}
