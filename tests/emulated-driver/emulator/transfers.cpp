// The driver's entry points for memory, copies and launches.
#include <stdlib.h>
#include <string.h>

#include <cstdio>
#include <map>
#include <new>
#include <vector>

#include "launcher.hpp"
#include "memory.hpp"
#include "streams.hpp"

namespace emulated {
namespace {

using memory::Address;

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

Result allocate(Address* address, size_t bytes) {
    if (bytes == 0) return ERROR_INVALID_VALUE;
    const int device = current_context()->device;
    const size_t live = memory::live_bytes(device), limit = size_t(settings.memory);
    if (live > limit || bytes > limit - live) return ERROR_OUT_OF_MEMORY;
    *address = memory::allocate(bytes, device);
    if (!*address) return ERROR_OUT_OF_MEMORY;
    ++counters.allocations;
    return SUCCESS;
}

Result release(Address address) {
    if (address == 0) return broken();
    const size_t bytes = memory::bytes_at(address);
    switch (memory::release(address)) {
    case memory::Freed::whole: return broken();
    case memory::Freed::unknown: return ERROR_INVALID_VALUE;
    case memory::Freed::written_past_end: break;
    }
    fprintf(stderr, "emulated driver: an allocation of %zu bytes was written past its end, found when it was freed\n", bytes);
    return fail_device(ERROR_ILLEGAL_ADDRESS);
}

// ---- Copies and fills: what they do, whenever it is done ----

struct Copy {
    void* to;
    const void* from;
    size_t bytes;
    Result operator()() const { return memmove(to, from, bytes), SUCCESS; }
};

template <class T>
struct Fill {
    Address at;
    T value;
    size_t count;
    Result operator()() const {
        for (size_t i = 0; i < count; ++i) memcpy(pointer(at + i * sizeof(T)), &value, sizeof(T));
        return SUCCESS;
    }
};

bool inside(Address address, size_t bytes) { return bytes == 0 || memory::holds(address, bytes); }

// In order with what the legacy stream does, and done when it returns.
Result at_once(bool valid, const Work& work) {
    if (Result result = ready_for_synchronous_work()) return result;
    return valid ? work() : ERROR_INVALID_VALUE;
}

Result in_stream(void* stream, bool valid, Work work) {
    if (!valid) {
        const Result result = ready();
        return result ? result : ERROR_INVALID_VALUE;
    }
    return submit(stream, std::move(work));
}

// ---- Launches ----

// A copy of a launch's arguments.
class Arguments {
public:
    Arguments(const Kernel& kernel, void* const* given) {
        size_t bytes = 0;
        std::vector<size_t> offsets;
        for (size_t i = 0; i < kernel.parameter_count; ++i) {
            const Parameter& parameter = kernel.parameters[i];
            bytes = (bytes + parameter.alignment - 1) / parameter.alignment * parameter.alignment;
            offsets.push_back(bytes);
            bytes += parameter.bytes;
        }
        bytes_ = std::make_unique<Unit[]>(bytes / sizeof(Unit) + 1);
        for (size_t i = 0; i < offsets.size(); ++i) {
            char* here = reinterpret_cast<char*>(bytes_.get()) + offsets[i];
            memcpy(here, given[i], kernel.parameters[i].bytes);
            pointers_.push_back(here);
        }
    }
    void* const* pointers() const { return pointers_.data(); }

private:
    struct alignas(16) Unit {
        char bytes[16];
    };
    std::unique_ptr<Unit[]> bytes_;
    std::vector<void*> pointers_;
};

bool within_limits(const Launch& launch, const Function& function) {
    const dim3 grid = launch.grid, block = launch.block;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) return false;
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return false;
    if (block.x > 1024 || block.y > 1024 || block.z > 64) return false;
    const uint64_t threads = uint64_t(block.x) * block.y * block.z;
    if (threads > launch.kernel->most_threads || threads > most_block_threads) return false;
    return launch.dynamic_bytes <= size_t(function.most_dynamic_shared);
}

Result run_kernel(const Launch& launch) {
    if (Result result = broken()) return result;
    ++counters.kernels;
    switch (run(launch)) {
    case Outcome::completed: return SUCCESS;
    case Outcome::illegal_address: return fail_device(ERROR_ILLEGAL_ADDRESS);
    case Outcome::misaligned_address: return fail_device(ERROR_MISALIGNED_ADDRESS);
    case Outcome::failed: break;
    }
    return fail_device(ERROR_LAUNCH_FAILED);
}

}  // namespace
}  // namespace emulated

using namespace emulated;

// ---- Memory -----------------------------------------------------------------------------------------------------------

ENTRY cuMemGetInfo_v2(size_t* free, size_t* total) {
    if (Result result = ready()) return result;
    const size_t live = memory::live_bytes(current_context()->device);
    *total = size_t(settings.memory);
    *free = live < *total ? *total - live : 0;
    return SUCCESS;
}

ENTRY cuMemAlloc_v2(Address* address, size_t bytes) {
    if (Result result = ready()) return result;
    if (Result result = allowed_during_capture()) return result;
    return allocate(address, bytes);
}

ENTRY cuMemFree_v2(Address address) {
    if (Result result = allowed_during_capture()) return result;
    return release(address);
}

// A real driver would capture these two, but memory that a graph allocates is not where the next launch expects it.
ENTRY cuMemAllocAsync(Address* address, size_t bytes, void* stream) {
    if (Result result = allowed_on(stream)) return result;
    return allocate(address, bytes);
}
ENTRY cuMemAllocFromPoolAsync(Address* address, size_t bytes, void*, void* stream) {
    return cuMemAllocAsync(address, bytes, stream);
}
ENTRY cuMemFreeAsync(Address address, void* stream) {
    const Result result = allowed_on(stream);
    if (result && result != broken()) return result;
    return release(address);
}

ENTRY cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    if (Result result = ready()) return result;
    if (Result result = allowed_during_capture()) return result;
    if (bytes == 0) return ERROR_INVALID_VALUE;
    constexpr size_t page = 4096;
    *memory = aligned_alloc(page, (bytes + page - 1) / page * page);
    return *memory ? SUCCESS : ERROR_OUT_OF_MEMORY;
}
ENTRY cuMemAllocHost_v2(void** memory, size_t bytes) { return cuMemHostAlloc(memory, bytes, 0); }
ENTRY cuMemFreeHost(void* memory) {
    free(memory);
    return broken();
}

ENTRY cuPointerGetAttribute(void* value, int attribute, Address address) {
    if (Result result = ready()) return result;
    constexpr int memory_type = 2, on_device = 2;
    if (!memory::holds(address, 1) || attribute != memory_type) return ERROR_INVALID_VALUE;
    *static_cast<unsigned*>(value) = on_device;
    return SUCCESS;
}

// There is one pool, from which nothing has to be given back.
ENTRY cuDeviceGetDefaultMemPool(void** pool, int device) {
    static int only_pool;
    *pool = &only_pool;
    return device >= 0 && device < settings.devices ? SUCCESS : ERROR_INVALID_DEVICE;
}
ENTRY cuDeviceGetMemPool(void** pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }
ENTRY cuDeviceSetMemPool(int, void*) { return ready(); }
ENTRY cuMemPoolTrimTo(void*, size_t) { return ready(); }
ENTRY cuMemPoolSetAttribute(void*, int, void*) { return ready(); }
ENTRY cuMemPoolGetAttribute(void*, int attribute, void* value) {
    constexpr int last_flag = 3;  // flags are of 32 bits, numbers of bytes of 64
    memset(value, 0, attribute <= last_flag ? sizeof(int) : sizeof(uint64_t));
    return ready();
}

// ---- Copies and fills -------------------------------------------------------------------------------------------------

ENTRY cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
    return at_once(inside(to, bytes), Copy{pointer(to), from, bytes});
}
ENTRY cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
    return at_once(inside(from, bytes), Copy{to, pointer(from), bytes});
}
ENTRY cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
    return at_once(inside(to, bytes) && inside(from, bytes), Copy{pointer(to), pointer(from), bytes});
}
ENTRY cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    return in_stream(stream, inside(to, bytes), Copy{pointer(to), from, bytes});
}
ENTRY cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    return in_stream(stream, inside(from, bytes), Copy{to, pointer(from), bytes});
}
ENTRY cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
    return in_stream(stream, inside(to, bytes) && inside(from, bytes), Copy{pointer(to), pointer(from), bytes});
}
ENTRY cuMemcpyPeerAsync(Address to, void*, Address from, void*, size_t bytes, void* stream) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, stream);
}

ENTRY cuMemsetD8_v2(Address at, unsigned char value, size_t count) {
    return at_once(inside(at, count), Fill<unsigned char>{at, value, count});
}
ENTRY cuMemsetD32_v2(Address at, unsigned value, size_t count) {
    return at_once(inside(at, 4 * count), Fill<unsigned>{at, value, count});
}
ENTRY cuMemsetD8Async(Address at, unsigned char value, size_t count, void* stream) {
    return in_stream(stream, inside(at, count), Fill<unsigned char>{at, value, count});
}
ENTRY cuMemsetD32Async(Address at, unsigned value, size_t count, void* stream) {
    return in_stream(stream, inside(at, 4 * count), Fill<unsigned>{at, value, count});
}

// ---- Launches ---------------------------------------------------------------------------------------------------------

ENTRY cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                     unsigned block_z, unsigned dynamic_bytes, void* stream, void** given, void** other_way) {
    if (Result result = ready()) return result;
    const Function* function = find_function(handle);
    if (!function) return ERROR_INVALID_HANDLE;
    const Kernel* kernel = function->kernel;
    Launch launch{kernel, nullptr, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_bytes};
    if (other_way || (kernel->parameter_count && !given)) return ERROR_INVALID_VALUE;
    if (!within_limits(launch, *function)) return ERROR_INVALID_VALUE;
    auto arguments = std::make_shared<Arguments>(*kernel, given);
    launch.arguments = arguments->pointers();
    if (!is_capturing(stream)) ++counters.launches;
    return submit(stream, [launch, arguments] { return run_kernel(launch); });
}
