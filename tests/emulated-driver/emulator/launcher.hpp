// How the driver runs kernels.
#pragma once

#include <string_view>

#include "emulated.hpp"
// Names of these would meet those of the host's code.
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#undef warpSize

namespace emulated {

constexpr unsigned most_block_threads = 1024;
constexpr size_t most_dynamic_shared = 227 * 1024;

struct Launch {
    const Kernel* kernel;
    void* const* arguments;
    dim3 grid, block;
    size_t dynamic_bytes;
};

enum class Outcome { completed, failed, illegal_address, misaligned_address };

// The kernel of this name, or null.
const Kernel* find_kernel(std::string_view name);

// Runs a launch whose sizes are within the limits, to its end. What goes wrong is also told on stderr.
Outcome run(const Launch& launch);

// The order in which threads run between barriers: 0 ascending, 1 descending. What follows from the environment
// (OCHE_EMULATED_ORDER) if it is negative.
void choose_order(int order);

}  // namespace emulated
