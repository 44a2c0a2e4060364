// What the entry points of the emulated driver share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#define ENTRY extern "C" __attribute__((visibility("default"))) ::emulated::Result

namespace emulated {

#define EMULATED_RESULTS(X)                                                                               \
    X(SUCCESS, 0, "no error")                                                                             \
    X(ERROR_INVALID_VALUE, 1, "invalid argument")                                                         \
    X(ERROR_OUT_OF_MEMORY, 2, "out of memory")                                                            \
    X(ERROR_NOT_INITIALIZED, 3, "initialization error")                                                   \
    X(ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected")                                         \
    X(ERROR_INVALID_DEVICE, 101, "invalid device ordinal")                                                \
    X(ERROR_INVALID_IMAGE, 200, "device kernel image is invalid")                                         \
    X(ERROR_INVALID_CONTEXT, 201, "invalid device context")                                               \
    X(ERROR_NO_BINARY_FOR_GPU, 209, "no kernel image is available for execution on the device")           \
    X(ERROR_INVALID_PTX, 218, "a PTX JIT compilation failed")                                             \
    X(ERROR_UNSUPPORTED_PTX_VERSION, 222, "the provided PTX was compiled with an unsupported toolchain.") \
    X(ERROR_INVALID_HANDLE, 400, "invalid resource handle")                                               \
    X(ERROR_ILLEGAL_STATE, 401, "the operation cannot be performed in the present state")                 \
    X(ERROR_NOT_FOUND, 500, "named symbol not found")                                                     \
    X(ERROR_NOT_READY, 600, "device not ready")                                                           \
    X(ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered")                             \
    X(ERROR_LAUNCH_OUT_OF_RESOURCES, 701, "too many resources requested for launch")                      \
    X(ERROR_MISALIGNED_ADDRESS, 716, "misaligned address")                                                \
    X(ERROR_LAUNCH_FAILED, 719, "unspecified launch failure")                                             \
    X(ERROR_NOT_PERMITTED, 800, "operation not permitted")                                                \
    X(ERROR_NOT_SUPPORTED, 801, "operation not supported")                                                \
    X(ERROR_STREAM_CAPTURE_UNSUPPORTED, 900, "operation not permitted when stream is capturing")          \
    X(ERROR_STREAM_CAPTURE_INVALIDATED, 901, "operation failed due to a previous error during capture")   \
    X(ERROR_STREAM_CAPTURE_MERGE, 902, "operation would result in a merge of separate capture sequences") \
    X(ERROR_STREAM_CAPTURE_UNMATCHED, 903, "capture was not ended in the same stream as it began")        \
    X(ERROR_STREAM_CAPTURE_UNJOINED, 904, "capturing stream has unjoined work")                           \
    X(ERROR_STREAM_CAPTURE_ISOLATION, 905, "dependency created on uncaptured work in another stream")     \
    X(ERROR_STREAM_CAPTURE_IMPLICIT, 906, "operation would make the legacy stream depend on a capturing blocking stream") \
    X(ERROR_CAPTURED_EVENT, 907, "operation not permitted on an event last recorded in a capturing stream") \
    X(ERROR_STREAM_CAPTURE_WRONG_THREAD, 908, "attempt to terminate a thread-local capture sequence from another thread") \
    X(ERROR_UNKNOWN, 999, "unknown error")

enum Result : int {
#define EMULATED_RESULT(name, code, text) name = code,
    EMULATED_RESULTS(EMULATED_RESULT)
#undef EMULATED_RESULT
};

// ---- Settings and counters --------------------------------------------------------------------------------------------

// What a test can choose, by these names and from these values on.
#define EMULATED_SETTINGS(X)                                                             \
    X(driver_version, 12040)                                                             \
    X(devices, 1)                                                                        \
    X(capability, 90)                                                                    \
    X(multiprocessors, 4)                                                                \
    X(memory, int64_t(8) << 30)                                                          \
    X(module_error, 0) /* what loading a module returns */                               \
    X(init_error, 0)   /* what cuInit returns */

// What a test can read.
#define EMULATED_COUNTERS(X)                                                             \
    X(launches)       /* kernels launched on a stream that does not capture */           \
    X(graph_launches) /* graphs launched */                                              \
    X(kernels)        /* kernels run, of the one and the other */                        \
    X(allocations)                                                                       \
    X(captured_nodes)

struct Settings {
#define EMULATED_SETTING(name, value) std::atomic<int64_t> name = value;
    EMULATED_SETTINGS(EMULATED_SETTING)
#undef EMULATED_SETTING
};
struct Counters {
#define EMULATED_COUNTER(name) std::atomic<int64_t> name = 0;
    EMULATED_COUNTERS(EMULATED_COUNTER)
#undef EMULATED_COUNTER
};
extern Settings settings;
extern Counters counters;

// ---- Contexts ---------------------------------------------------------------------------------------------------------

constexpr int most_devices = 16;

struct Context {
    int device;
};

// Of this thread; null if none was set.
Context* current_context();

// The error that the device is in after a kernel failed, until a test resets it.
Result broken();
Result fail_device(Result why);

// SUCCESS if a call that needs a context can be made.
Result ready();

// ---- Handles ----------------------------------------------------------------------------------------------------------

// The objects of one type whose addresses were handed out as handles.
template <class T>
class Handles {
public:
    T* add(std::unique_ptr<T> object) {
        std::lock_guard lock(mutex_);
        T* handle = object.get();
        objects_.emplace(handle, std::move(object));
        return handle;
    }
    // Null if it is none.
    T* find(void* handle) {
        std::lock_guard lock(mutex_);
        auto found = objects_.find(handle);
        return found == objects_.end() ? nullptr : found->second.get();
    }
    bool remove(void* handle) {
        std::lock_guard lock(mutex_);
        return objects_.erase(handle) == 1;
    }
    template <class Condition>
    T* find_if(Condition condition) {
        std::lock_guard lock(mutex_);
        for (const auto& entry : objects_) {
            if (condition(*entry.second)) return entry.second.get();
        }
        return nullptr;
    }
    template <class Condition>
    void remove_if(Condition condition) {
        std::lock_guard lock(mutex_);
        std::erase_if(objects_, [&](const auto& entry) { return condition(*entry.second); });
    }

private:
    std::mutex mutex_;
    std::unordered_map<void*, std::unique_ptr<T>> objects_;
};

struct Kernel;

struct Function {
    const Kernel* kernel;
    void* module;
    int most_dynamic_shared;
};
Function* find_function(void* handle);

}  // namespace emulated
