// The driver's entry points for devices, contexts, modules, functions and errors.
#include "driver.hpp"

#include <string.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string_view>

#include "launcher.hpp"
#include "memory.hpp"
#include "streams.hpp"

namespace emulated {

Settings settings;
Counters counters;

namespace {

std::atomic<bool> initialised = false;
std::atomic<Result> device_error = SUCCESS;

Context contexts[most_devices];
// Static shared memory is filled with NaN where thread-local variables without an initial value lie: this needs one.
Context no_context{-1};
thread_local Context* context_of_thread = &no_context;

struct Module {};
Handles<Module> modules;
Handles<Function> functions;

constexpr int usual_dynamic_shared = 48 * 1024;

bool is_device(int device) { return device >= 0 && device < settings.devices && device < most_devices; }

// What one block may have at the most, on a device of this compute capability.
int dynamic_shared_limit() {
    switch (settings.capability) {
    case 75: return 64 * 1024;
    case 80: return 163 * 1024;
    case 86:
    case 89: return 99 * 1024;
    default: return int(most_dynamic_shared);
    }
}

struct Words {
    const char *name, *text;
};
const Words* words(int code) {
    static const std::map<int, Words> all = {
#define EMULATED_RESULT(name, code, text) {code, {"CUDA_" #name, text}},
        EMULATED_RESULTS(EMULATED_RESULT)
#undef EMULATED_RESULT
    };
    auto found = all.find(code);
    return found == all.end() ? nullptr : &found->second;
}

int device_attribute(int attribute) {
    switch (attribute) {
    case 1: return int(most_block_threads);
    case 2:
    case 3: return 1024;  // of a block's sides
    case 4: return 64;
    case 5: return 0x7fffffff;  // of a grid's sides
    case 6:
    case 7: return 65535;
    case 8: return usual_dynamic_shared;
    case 9: return 65536;  // constant memory
    case 10: return int(warp_lanes);
    case 12:
    case 82: return 65536;  // registers
    case 13: return 1'000'000;  // kHz
    case 16: return int(settings.multiprocessors);
    case 31: return 1;  // concurrent kernels
    case 36: return 1'000'000;
    case 37: return 4096;  // bits of the memory's bus
    case 38: return 50 << 20;  // second-level cache
    case 39: return 2048;  // threads of a multiprocessor
    case 40: return 2;
    case 41: return 1;  // one address space
    case 75: return int(settings.capability / 10);
    case 76: return int(settings.capability % 10);
    case 81: return dynamic_shared_limit() + 1024;
    case 97: return dynamic_shared_limit();
    case 115: return 1;  // pools of memory
    default: return 0;
    }
}

}  // namespace

Context* current_context() { return context_of_thread == &no_context ? nullptr : context_of_thread; }

Result broken() { return device_error; }
Result fail_device(Result why) {
    device_error = why;
    return why;
}

Result ready() {
    if (!initialised) return ERROR_NOT_INITIALIZED;
    if (!current_context()) return ERROR_INVALID_CONTEXT;
    return broken();
}

Function* find_function(void* handle) { return functions.find(handle); }

}  // namespace emulated

using namespace emulated;

// ---- For tests --------------------------------------------------------------------------------------------------------

#define FOR_TESTS extern "C" __attribute__((visibility("default")))

// 0, or -1 for a setting that does not exist.
FOR_TESTS int oche_emulated_set(const char* key, int64_t value) {
#define EMULATED_SETTING(name, initial) \
    if (strcmp(key, #name) == 0) return settings.name = value, 0;
    EMULATED_SETTINGS(EMULATED_SETTING)
#undef EMULATED_SETTING
    return -1;
}

// A counter, a setting, or the bytes that are allocated now (live_bytes); -1 if it does not exist.
FOR_TESTS int64_t oche_emulated_get(const char* key) {
#define EMULATED_COUNTER(name) \
    if (strcmp(key, #name) == 0) return counters.name;
    EMULATED_COUNTERS(EMULATED_COUNTER)
#undef EMULATED_COUNTER
#define EMULATED_SETTING(name, initial) \
    if (strcmp(key, #name) == 0) return settings.name;
    EMULATED_SETTINGS(EMULATED_SETTING)
#undef EMULATED_SETTING
    if (strcmp(key, "live_bytes") != 0) return -1;
    size_t bytes = 0;
    for (int device = 0; device < most_devices; ++device) bytes += memory::live_bytes(device);
    return int64_t(bytes);
}

FOR_TESTS void oche_emulated_order(int order) { choose_order(order); }

// As it was at the start, but for what the process holds: contexts, memory, modules, streams and events.
FOR_TESTS void oche_emulated_reset() {
#define EMULATED_SETTING(name, initial) settings.name = initial;
    EMULATED_SETTINGS(EMULATED_SETTING)
#undef EMULATED_SETTING
#define EMULATED_COUNTER(name) counters.name = 0;
    EMULATED_COUNTERS(EMULATED_COUNTER)
#undef EMULATED_COUNTER
    choose_order(-1);
    forget_captures();
    device_error = SUCCESS;
}

// ---- Errors -----------------------------------------------------------------------------------------------------------

ENTRY cuGetErrorName(int code, const char** name) {
    const Words* found = words(code);
    *name = found ? found->name : nullptr;
    return found ? SUCCESS : ERROR_INVALID_VALUE;
}

ENTRY cuGetErrorString(int code, const char** text) {
    const Words* found = words(code);
    *text = found ? found->text : nullptr;
    return found ? SUCCESS : ERROR_INVALID_VALUE;
}

// ---- Devices ----------------------------------------------------------------------------------------------------------

ENTRY cuInit(unsigned) {
    if (settings.init_error) return Result(settings.init_error.load());
    if (settings.devices == 0) return ERROR_NO_DEVICE;
    for (int i = 0; i < most_devices; ++i) contexts[i].device = i;
    initialised = true;
    return SUCCESS;
}

ENTRY cuDriverGetVersion(int* version) {
    *version = int(settings.driver_version);
    return SUCCESS;
}

ENTRY cuDeviceGetCount(int* count) {
    if (!initialised) return ERROR_NOT_INITIALIZED;
    *count = int(settings.devices);
    return SUCCESS;
}

ENTRY cuDeviceGet(int* device, int ordinal) {
    if (!initialised) return ERROR_NOT_INITIALIZED;
    if (!is_device(ordinal)) return ERROR_INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

ENTRY cuDeviceGetName(char* name, int bytes, int device) {
    if (!is_device(device)) return ERROR_INVALID_DEVICE;
    snprintf(name, size_t(bytes), "Emulated GPU");
    return SUCCESS;
}

ENTRY cuDeviceGetUuid(char* sixteen, int device) {
    if (!is_device(device)) return ERROR_INVALID_DEVICE;
    memset(sixteen, 0, 16);
    sixteen[15] = char(device);
    return SUCCESS;
}
ENTRY cuDeviceGetUuid_v2(char* sixteen, int device) { return cuDeviceGetUuid(sixteen, device); }

ENTRY cuDeviceTotalMem_v2(size_t* bytes, int device) {
    if (!is_device(device)) return ERROR_INVALID_DEVICE;
    *bytes = size_t(settings.memory);
    return SUCCESS;
}

ENTRY cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (!is_device(device)) return ERROR_INVALID_DEVICE;
    *value = device_attribute(attribute);
    return SUCCESS;
}

// ---- Contexts ---------------------------------------------------------------------------------------------------------

ENTRY cuDevicePrimaryCtxRetain(void** context, int device) {
    if (!initialised) return ERROR_NOT_INITIALIZED;
    if (!is_device(device)) return ERROR_INVALID_DEVICE;
    *context = &contexts[device];
    return SUCCESS;
}

ENTRY cuDevicePrimaryCtxRelease_v2(int device) { return is_device(device) ? SUCCESS : ERROR_INVALID_DEVICE; }

ENTRY cuCtxGetCurrent(void** context) {
    if (!initialised) return ERROR_NOT_INITIALIZED;
    *context = current_context();
    return SUCCESS;
}

ENTRY cuCtxSetCurrent(void* context) {
    if (!initialised) return ERROR_NOT_INITIALIZED;
    context_of_thread = context ? static_cast<Context*>(context) : &no_context;
    return SUCCESS;
}

ENTRY cuCtxGetDevice(int* device) {
    if (Result result = ready()) return result;
    *device = current_context()->device;
    return SUCCESS;
}

ENTRY cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    if (Result result = ready()) return result;
    *least = 0;
    *greatest = -5;
    return SUCCESS;
}

ENTRY cuCtxSetFlags(unsigned) { return ready(); }
ENTRY cuCtxSetLimit(int, size_t) { return ready(); }
ENTRY cuCtxGetLimit(size_t* value, int) {
    *value = 0;
    return ready();
}
ENTRY cuCtxSetCacheConfig(int) { return ready(); }
ENTRY cuCtxGetCacheConfig(int* config) {
    *config = 0;
    return ready();
}

ENTRY cuProfilerStart() { return ready(); }
ENTRY cuProfilerStop() { return ready(); }

// ---- Modules and functions --------------------------------------------------------------------------------------------

// Every module has all kernels: the image is not looked into.
ENTRY cuModuleLoadData(void** module, const void* image) {
    if (Result result = ready()) return result;
    if (Result result = allowed_during_capture()) return result;
    if (settings.module_error) return Result(settings.module_error.load());
    if (!image) return ERROR_INVALID_VALUE;
    if (*static_cast<const char*>(image) == 0) return ERROR_INVALID_IMAGE;
    *module = modules.add(std::make_unique<Module>());
    return SUCCESS;
}

ENTRY cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void**) { return cuModuleLoadData(module, image); }
ENTRY cuModuleLoadFatBinary(void** module, const void* image) { return cuModuleLoadData(module, image); }

ENTRY cuModuleUnload(void* module) {
    functions.remove_if([=](const Function& function) { return function.module == module; });
    return modules.remove(module) ? broken() : ERROR_INVALID_HANDLE;
}

ENTRY cuModuleGetFunction(void** function, void* module, const char* name) {
    if (Result result = ready()) return result;
    if (!modules.find(module)) return ERROR_INVALID_HANDLE;
    const Kernel* kernel = find_kernel(name);
    if (!kernel) return ERROR_NOT_FOUND;
    auto same = [=](const Function& other) { return other.module == module && other.kernel == kernel; };
    Function* known = functions.find_if(same);
    if (!known) known = functions.add(std::make_unique<Function>(Function{kernel, module, usual_dynamic_shared}));
    *function = known;
    return SUCCESS;
}

ENTRY cuModuleGetGlobal_v2(uint64_t*, size_t*, void*, const char*) {
    Result result = ready();
    return result ? result : ERROR_NOT_FOUND;
}

ENTRY cuFuncGetAttribute(int* value, int attribute, void* handle) {
    if (Result result = ready()) return result;
    const Function* function = find_function(handle);
    if (!function) return ERROR_INVALID_HANDLE;
    switch (attribute) {
    case 0: *value = int(function->kernel->most_threads); return SUCCESS;
    case 4: *value = 32; return SUCCESS;  // registers
    case 5:
    case 6: *value = int(settings.capability); return SUCCESS;
    case 8: *value = function->most_dynamic_shared; return SUCCESS;
    default: *value = 0; return SUCCESS;
    }
}

ENTRY cuFuncSetAttribute(void* handle, int attribute, int value) {
    if (Result result = ready()) return result;
    Function* function = find_function(handle);
    if (!function) return ERROR_INVALID_HANDLE;
    constexpr int most_dynamic_shared_bytes = 8;
    if (attribute != most_dynamic_shared_bytes) return SUCCESS;
    if (value < 0 || value > dynamic_shared_limit()) return ERROR_INVALID_VALUE;
    function->most_dynamic_shared = value;
    return SUCCESS;
}

ENTRY cuFuncSetCacheConfig(void* handle, int) {
    if (Result result = ready()) return result;
    return find_function(handle) ? SUCCESS : ERROR_INVALID_HANDLE;
}

ENTRY cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int threads, size_t dynamic_bytes) {
    if (Result result = ready()) return result;
    if (!find_function(handle) || threads < 1) return ERROR_INVALID_VALUE;
    int by_threads = device_attribute(39) / threads;
    int by_shared = dynamic_bytes ? int(size_t(device_attribute(81)) / (dynamic_bytes + 1024)) : 32;
    *blocks = std::min({by_threads, by_shared, 32});
    return SUCCESS;
}
ENTRY cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void* handle, int threads, size_t bytes, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, handle, threads, bytes);
}

// ---- What this driver does not have -----------------------------------------------------------------------------------

#define NOT_HERE(name) \
    ENTRY name() { return ERROR_NOT_SUPPORTED; }
NOT_HERE(cuCtxCreate_v3)
NOT_HERE(cuCtxCreate_v4)
NOT_HERE(cuCtxDestroy_v2)
NOT_HERE(cuModuleLoad)
NOT_HERE(cuLaunchCooperativeKernel)
NOT_HERE(cuOccupancyAvailableDynamicSMemPerBlock)
NOT_HERE(cuOccupancyMaxPotentialBlockSize)
NOT_HERE(cuOccupancyMaxPotentialBlockSizeWithFlags)
NOT_HERE(cuOccupancyMaxPotentialClusterSize)
NOT_HERE(cuOccupancyMaxActiveClusters)
NOT_HERE(cuMemAllocManaged)
NOT_HERE(cuMemAdvise_v2)
NOT_HERE(cuMemPrefetchAsync_v2)
NOT_HERE(cuStreamAttachMemAsync)
NOT_HERE(cuMemPoolCreate)
NOT_HERE(cuMemPoolDestroy)
NOT_HERE(cuImportExternalMemory)
NOT_HERE(cuExternalMemoryGetMappedBuffer)
NOT_HERE(cuDestroyExternalMemory)
