// The device's memory: allocations between pages without access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulated::memory {

using Address = uint64_t;

// Null if the process has no more. What it holds is NaN, whatever size of float it is read as.
Address allocate(size_t bytes, int device);

enum class Freed { whole, written_past_end, unknown };
Freed release(Address start);

// Whether these bytes lie in one allocation.
bool holds(Address start, size_t bytes);

// The bytes of the allocation that starts here; 0 if none does.
size_t bytes_at(Address start);

size_t live_bytes(int device);

// What is near an address: " (4 bytes past the end of an allocation of 256)", " (it was freed)", or nothing.
std::string describe(Address address);

}  // namespace emulated::memory
