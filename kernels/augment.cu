// A batch from stored images: gathered, cropped, flipped, normalised, cut out. Twin: src/data/resident.rs.
//
//   images[i,y,x,c] = 0 in the square of side `cutout` around the centre drawn for image i, else
//                     levels[c, stored[index_i, y + dy_i, x' + dx_i, c]], x' = x or w - 1 - x; beyond the border 0 is
//                     stored
//   labels[i] = all_labels[index_i]
//
// stored: (images, h, w, c) bytes; levels: (c, 256) float; images: (n, h, w, c) of T. A thread an element: 64 images of
// CIFAR are 768 KiB out and 192 KiB in.
#include "common.cuh"

struct Placement {
    int index, dy, dx, flip, cut_y, cut_x;
};
// `cutout` is the side of the square, 0 for none.
struct BatchShape {
    int n, h, w, c, cutout;
};

// Whether `at` is in a square around `centre`; of an odd side more lies on the right.
DEVICE bool in_square(int at, int centre, int side) {
    const int start = centre - side / 2;
    return at >= start && at < start + side;
}

template <class T>
DEVICE void fill_batch(const uint8_t* stored, const float* levels, const uint32_t* all_labels,
                       const Placement* placements, T* images, uint32_t* labels, const BatchShape& s) {
    const int i = flat_index(), length = s.h * s.w * s.c, n = i / length;
    if (n >= s.n) return;
    const Placement place = placements[n];
    const int within = i % length, c = within % s.c, x = within / s.c % s.w, y = within / s.c / s.w;
    if (within == 0) labels[n] = all_labels[place.index];
    if (in_square(y, place.cut_y, s.cutout) && in_square(x, place.cut_x, s.cutout)) {
        store(images + i, 0.f);
        return;
    }
    const int from_y = y + place.dy, from_x = (place.flip ? s.w - 1 - x : x) + place.dx;
    int level = 0;
    if (from_y >= 0 && from_y < s.h && from_x >= 0 && from_x < s.w)
        level = stored[(size_t)place.index * length + (from_y * s.w + from_x) * s.c + c];
    store(images + i, levels[c * 256 + level]);
}

#define FILL_BATCH(name, T)                                                                                       \
    KERNEL(name, const uint8_t* stored, const float* levels, const uint32_t* all_labels,                          \
           const Placement* placements, T* images, uint32_t* labels, BatchShape s) {                              \
        fill_batch(stored, levels, all_labels, placements, images, labels, s);                                    \
    }
FILL_BATCH(fill_batch_f32, float)
FILL_BATCH(fill_batch_bf16, bf16)
