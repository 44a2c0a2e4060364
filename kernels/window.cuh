// A window that slides over channels-last images: what convolutions and pools share. Twin: src/ops/cuda/window.rs.
#pragma once

#include "common.cuh"

// Images (n, h, w, c), and what the window makes of them, (n, oh, ow, d).
struct ImageWindow {
    int n, h, w, c;
    int oh, ow, d;
    int kh, kw, sh, sw, ph, pw, dh, dw;
};

// t / stride if that is whole, else negative.
DEVICE int whole_part(int t, int stride) {
    if (stride == 1) return t;
    if (stride == 2) return t & 1 ? -1 : t >> 1;
    int part = t / stride;
    return part * stride == t ? part : -1;
}

// Where tap `k` of target `at` is in the source, along one axis; may lie outside. Forward the targets are those of the
// window; BACK the targets are its sources, of which not every one is under tap k.
template <bool BACK>
DEVICE int tap_source(int at, int k, int stride, int padding, int dilation) {
    return BACK ? whole_part(at + padding - k * dilation, stride) : at * stride - padding + k * dilation;
}

// As unsigned, what is negative is large.
DEVICE bool within(int at, int size) { return (unsigned)at < (unsigned)size; }

struct Pixel {
    int n, y, x;
};
// Pixel number `i` of images of size (height, width).
DEVICE Pixel pixel_of(int i, int height, int width) {
    int row = i / width;
    return {row / height, row % height, i % width};
}

// V neighbouring elements; of four, the first is aligned to all.
template <int V, class T>
DEVICE void load_some(const T* from, float (&x)[V]) {
    if constexpr (V == 4) {
        vec4 v = load4(from);
        for (int i = 0; i < 4; ++i) x[i] = v.at[i];
    } else {
        x[0] = load(from);
    }
}
template <int V, class T>
DEVICE void put_some(T* to, const float (&x)[V], int accumulate) {
    if constexpr (V == 4) {
        vec4 v = {{x[0], x[1], x[2], x[3]}};
        if (accumulate) {
            vec4 old = load4(to);
            for (int i = 0; i < 4; ++i) v.at[i] += old.at[i];
        }
        store4(to, v);
    } else {
        put(to, x[0], accumulate);
    }
}
