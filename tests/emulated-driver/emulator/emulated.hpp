// The device side of CUDA C++ for the CPU: what a kernel may use, with the meaning it has on a GPU.
//
// Every thread of a block is a fibre on the operating system's thread that launched; see emulated.cpp for who runs when.
// Left out on purpose: atomics on floats, and whatever only a GPU can do (inline PTX belongs behind a function with a
// twin here, as in mma.hpp).
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <bit>
#include <type_traits>
#include <utility>

// ---- CUDA's keywords ------------------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__  // the host's headers use this word too, within an attribute
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
// One block at a time runs on a thread of the operating system, so a variable of that thread is the block's.
#define __shared__ static thread_local

// A kernel: `KERNEL(fill, float* y, float value, int n) { ... }`. It adds itself to the kernels that the driver finds.
#define KERNEL(name, ...) EMULATED_KERNEL(256, name, __VA_ARGS__)
#define EMULATED_KERNEL(most_threads, name, ...)   \
    extern "C" void name(__VA_ARGS__);             \
    EMULATED_REGISTER(name, most_threads)          \
    extern "C" void name(__VA_ARGS__)
#define EMULATED_REGISTER(name, most_threads) \
    static const ::emulated::Registration emulated_registration_of_##name(::emulated::describe<&name>(#name, most_threads));

// Shared memory whose size the launch gives: `DYNAMIC_SHARED(float, tile);`.
#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::emulated::current().block->dynamic_shared)

// ---- Vectors --------------------------------------------------------------------------------------------------------

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

#define EMULATED_VECTORS(type, name)                                                  \
    struct alignas(2 * sizeof(type)) name##2 {                                        \
        type x, y;                                                                    \
    };                                                                                \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 {           \
        type x, y, z, w;                                                              \
    };                                                                                \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                  \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(double, double)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(unsigned, uint)
EMULATED_VECTORS(short, short)
EMULATED_VECTORS(unsigned short, ushort)
EMULATED_VECTORS(unsigned char, uchar)
#undef EMULATED_VECTORS

// ---- What the emulator offers to this header ------------------------------------------------------------------------

namespace emulated {

class Scheduler;

constexpr unsigned warp_lanes = 32;
constexpr size_t stack_bytes = 64 * 1024;

struct Block {
    uint3 index;
    dim3 size, grid;
    void* dynamic_shared;
};

// Lies at the upper end of every fibre's stack, which is aligned to its size: found without a thread-local variable.
struct Current {
    uint3 thread;
    unsigned lane;
    const Block* block;
    Scheduler* scheduler;
};

__forceinline__ Current& current() {
    auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    return *reinterpret_cast<Current*>((frame | (stack_bytes - 1)) + 1 - sizeof(Current));
}

// Ends the launch with an error; the words are copied.
[[noreturn]] void fail(const char* why);

void meet_block();

// What a warp does together: called once, when every lane of the mask has come, with what each of them brought; null for
// lanes that do not take part.
using Lanes = void* const[warp_lanes];
using Together = void (*)(Lanes& brought);
void meet_warp(uint32_t mask, Together act, void* brought);

void only_meet(Lanes&);
void deliver(Lanes& letters);  // of Letter
void ballot(Lanes& votes);     // of Vote

struct Letter {
    uint64_t sent, received;
    unsigned from;
};
struct Vote {
    bool yes;
    uint32_t all;
};

template <class T>
T receive(uint32_t mask, T value, unsigned from) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take values of 4 or 8 bytes");
    Letter letter{0, 0, from};
    memcpy(&letter.sent, &value, sizeof(T));
    meet_warp(mask, deliver, &letter);
    memcpy(&value, &letter.received, sizeof(T));
    return value;
}

inline uint32_t vote(uint32_t mask, bool yes) {
    Vote mine{yes, 0};
    meet_warp(mask, ballot, &mine);
    return mine.all;
}

// The lanes of a shuffle's segment: `width` of them, a power of two.
struct Segment {
    unsigned lane, first, last;
    explicit Segment(int width) : lane(current().lane) {
        if (width < 1 || width > 32 || !std::has_single_bit(unsigned(width))) fail("a shuffle's width is no power of two");
        first = lane & ~(width - 1u);
        last = first + width - 1;
    }
};

// ---- Kernels that can be launched ----

struct Parameter {
    size_t bytes, alignment;
};

struct Kernel {
    const char* name;
    unsigned most_threads;
    const Parameter* parameters;
    size_t parameter_count;
    void (*run)(void* const* arguments);
};

struct Registration {
    explicit Registration(const Kernel& kernel);
};

template <auto function>
struct Signature;
template <class... T, void (*function)(T...)>
struct Signature<function> {
    // One more than there are, since an array has to have an element.
    static constexpr Parameter parameters[] = {{sizeof(T), alignof(T)}..., {0, 1}};
    static constexpr size_t count = sizeof...(T);

    template <size_t... at>
    static void call(void* const* arguments, std::index_sequence<at...>) {
        function(*static_cast<std::remove_cv_t<T>*>(arguments[at])...);
    }
    static void run([[maybe_unused]] void* const* arguments) { call(arguments, std::index_sequence_for<T...>()); }
};

template <auto function>
Kernel describe(const char* name, unsigned most_threads) {
    using Its = Signature<function>;
    return {name, most_threads, Its::parameters, Its::count, Its::run};
}

}  // namespace emulated

// ---- Where a thread is ----------------------------------------------------------------------------------------------

#define threadIdx (::emulated::current().thread)
#define blockIdx (::emulated::current().block->index)
#define blockDim (::emulated::current().block->size)
#define gridDim (::emulated::current().block->grid)
#define warpSize 32

// ---- Threads together -----------------------------------------------------------------------------------------------

inline void __syncthreads() { emulated::meet_block(); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) { emulated::meet_warp(mask, emulated::only_meet, nullptr); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T>
T __shfl_sync(uint32_t mask, T value, int from, int width = 32) {
    emulated::Segment segment(width);
    return emulated::receive(mask, value, segment.first | (unsigned(from) & (width - 1u)));
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32) {
    emulated::Segment segment(width);
    bool inside = by <= segment.lane - segment.first;
    return emulated::receive(mask, value, inside ? segment.lane - by : segment.lane);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32) {
    emulated::Segment segment(width);
    bool inside = by <= segment.last - segment.lane;
    return emulated::receive(mask, value, inside ? segment.lane + by : segment.lane);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int with, int width = 32) {
    emulated::Segment segment(width);
    unsigned from = segment.lane ^ unsigned(with);
    return emulated::receive(mask, value, from <= segment.last ? from : segment.lane);
}

inline uint32_t __ballot_sync(uint32_t mask, int yes) { return emulated::vote(mask, yes != 0); }
inline int __any_sync(uint32_t mask, int yes) { return emulated::vote(mask, yes != 0) != 0; }
inline int __all_sync(uint32_t mask, int yes) { return emulated::vote(mask, yes == 0) == 0; }

[[noreturn]] inline void __trap() { emulated::fail("__trap()"); }

// Blocks of two launches may run at the same time, so these are true atomics.
#define EMULATED_ATOMICS(T)                                                                           \
    inline T atomicAdd(T* at, T value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }    \
    inline T atomicSub(T* at, T value) { return __atomic_fetch_sub(at, value, __ATOMIC_RELAXED); }    \
    inline T atomicAnd(T* at, T value) { return __atomic_fetch_and(at, value, __ATOMIC_RELAXED); }    \
    inline T atomicOr(T* at, T value) { return __atomic_fetch_or(at, value, __ATOMIC_RELAXED); }      \
    inline T atomicXor(T* at, T value) { return __atomic_fetch_xor(at, value, __ATOMIC_RELAXED); }    \
    inline T atomicExch(T* at, T value) { return __atomic_exchange_n(at, value, __ATOMIC_RELAXED); }  \
    inline T atomicCAS(T* at, T expected, T value) {                                                  \
        __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); \
        return expected;                                                                              \
    }                                                                                                 \
    inline T atomicMin(T* at, T value) {                                                              \
        T old = *at;                                                                                  \
        for (T seen; value < old && (seen = atomicCAS(at, old, value)) != old;) old = seen;           \
        return old;                                                                                   \
    }                                                                                                 \
    inline T atomicMax(T* at, T value) {                                                              \
        T old = *at;                                                                                  \
        for (T seen; old < value && (seen = atomicCAS(at, old, value)) != old;) old = seen;           \
        return old;                                                                                   \
    }
EMULATED_ATOMICS(int)
EMULATED_ATOMICS(unsigned)
EMULATED_ATOMICS(unsigned long long)
#undef EMULATED_ATOMICS

// ---- Memory and bits ------------------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* from) {
    return *from;
}

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }

inline int __mul24(int a, int b) {
    auto low = [](int x) { return int64_t(int(unsigned(x) << 8) >> 8); };
    return int(low(a) * low(b));
}
inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return unsigned(((uint64_t(high) << 32 | low) << (by & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return unsigned((uint64_t(high) << 32 | low) >> (by & 31));
}

// ---- Arithmetic -----------------------------------------------------------------------------------------------------

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline int __float2int_rn(float x) { return int(rintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }

#define EMULATED_EXTREMES(T)                           \
    inline T min(T a, T b) { return b < a ? b : a; }   \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATED_EXTREMES(int)
EMULATED_EXTREMES(unsigned)
EMULATED_EXTREMES(long)
EMULATED_EXTREMES(unsigned long)
EMULATED_EXTREMES(long long)
EMULATED_EXTREMES(unsigned long long)
#undef EMULATED_EXTREMES
inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
// Of a NaN and a number these give the number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

#include "mma.hpp"
