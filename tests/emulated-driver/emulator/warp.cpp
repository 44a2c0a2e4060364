// What the lanes of a warp do together.
#include "launcher.hpp"

namespace emulated {

void only_meet(Lanes&) {}

// What comes from a lane that takes no part is undefined: NaN, or a large number.
void deliver(Lanes& letters) {
    for (void* one : letters) {
        if (!one) continue;
        auto* letter = static_cast<Letter*>(one);
        auto* from = static_cast<const Letter*>(letters[letter->from % warp_lanes]);
        letter->received = from ? from->sent : ~uint64_t(0);
    }
}

void ballot(Lanes& votes) {
    uint32_t all = 0;
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
        if (votes[lane] && static_cast<Vote*>(votes[lane])->yes) all |= 1u << lane;
    }
    for (void* one : votes) {
        if (one) static_cast<Vote*>(one)->all = all;
    }
}

void multiply_fragments(Lanes& fragments) {
    float a[16][16], b[8][16];
    auto low = [](uint32_t word) { return std::bit_cast<float>(word << 16); };
    auto high = [](uint32_t word) { return std::bit_cast<float>(word & 0xffff0000u); };
    auto of = [&](unsigned lane) {
        static constexpr uint32_t nan[4] = {~0u, ~0u, ~0u, ~0u};
        return fragments[lane] ? *static_cast<Fragments*>(fragments[lane]) : Fragments{nullptr, nan, nan};
    };
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
        const Fragments its = of(lane);
        const unsigned row = lane / 4, pair = lane % 4 * 2;
        for (unsigned i = 0; i < 4; ++i) {
            float* to = &a[row + i % 2 * 8][pair + i / 2 * 8];
            to[0] = low(its.a[i]);
            to[1] = high(its.a[i]);
        }
        for (unsigned i = 0; i < 2; ++i) {
            float* to = &b[row][pair + i * 8];
            to[0] = low(its.b[i]);
            to[1] = high(its.b[i]);
        }
    }
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
        float* d = of(lane).d;
        for (unsigned i = 0; d && i < 4; ++i) {
            const float* x = a[lane / 4 + i / 2 * 8];
            const float* y = b[lane % 4 * 2 + i % 2];
            float sum = 0;
            for (int k = 0; k < 16; ++k) sum += x[k] * y[k];
            d[i] += sum;
        }
    }
}

}  // namespace emulated
