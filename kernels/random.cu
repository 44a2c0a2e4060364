// Random words by counter: Philox4x32-10 (Salmon et al. 2011). Twin: src/device/random.rs, bit for bit.
//
//   words[4 i .. 4 i + 3] = philox(counter = (from + i, stream), key = seed), the lower half of each first
//
// 4 bytes a word and some 15 integer operations. A thread an i.
#include "common.cuh"

DEVICE void philox_round(uint32_t (&x)[4], uint32_t key0, uint32_t key1) {
    const uint64_t a = (uint64_t)0xD2511F53u * x[0], b = (uint64_t)0xCD9E8D57u * x[2];
    const uint32_t x1 = x[1], x3 = x[3];
    x[0] = (uint32_t)(b >> 32) ^ x1 ^ key0;
    x[1] = (uint32_t)b;
    x[2] = (uint32_t)(a >> 32) ^ x3 ^ key1;
    x[3] = (uint32_t)a;
}

KERNEL(random_words, uint64_t seed, uint64_t stream, uint64_t from, uint32_t* words, int n) {
    const int i = flat_index();
    if (i >= (n + 3) / 4) return;
    const uint64_t counter = from + (uint64_t)i;
    uint32_t x[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        philox_round(x, key0, key1);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (4 * i + k < n) words[4 * i + k] = x[k];
}
