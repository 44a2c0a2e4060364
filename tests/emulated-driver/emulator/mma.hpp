// The tensor cores' multiplication on the CPU: the twin of `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32`.
#pragma once

namespace emulated {

struct Fragments {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
};

void multiply_fragments(Lanes& fragments);

}  // namespace emulated

// d += a b for a 16 x 16 tile a, row by row, and a 16 x 8 tile b, column by column, spread over the lanes of a warp. With
// `row = lane / 4` and `pair = 2 * (lane % 4)` a lane holds, two bf16 to a word, the lower half first:
//   a[0] row     pair, +1    a[1] row + 8 pair, +1    a[2] row pair + 8, +9    a[3] row + 8 pair + 8, +9
//   b[0] pair, +1 of column row                       b[1] pair + 8, +9 of column row
//   d[0], d[1] row    columns pair, +1                d[2], d[3] row + 8 columns pair, +1
inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::Fragments mine{d, a, b};
    emulated::meet_warp(0xffffffffu, emulated::multiply_fragments, &mine);
}
