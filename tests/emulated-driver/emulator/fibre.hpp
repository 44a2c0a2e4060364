// Switching between the stacks of one thread of the operating system.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

namespace emulated {

// A computation that is not running: its stack, where the registers that a function has to keep lie on top.
struct Context {
    void* stack = nullptr;
};

extern "C" void emulated_switch(Context* from, const Context* to);

inline void switch_context(Context& from, const Context& to) { emulated_switch(&from, &to); }

// Makes `entry` what runs at the first switch to `context`; it must never return.
inline void prepare_context(Context& context, char* top, void (*entry)()) {
    constexpr int kept_registers = 6;
    auto slot = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
    *--slot = 0;  // in place of a return address, and for the alignment that a function expects
    *--slot = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < kept_registers; ++i) *--slot = 0;
    context.stack = slot;
}

}  // namespace emulated

#else

#include <ucontext.h>

namespace emulated {

struct Context {
    ucontext_t state;
};

inline void switch_context(Context& from, const Context& to) { swapcontext(&from.state, &to.state); }

inline void prepare_context(Context& context, char* top, void (*entry)()) {
    constexpr size_t reserve = 48 * 1024;  // what of the stack the new context may use
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = top - reserve;
    context.state.uc_stack.ss_size = reserve;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

}  // namespace emulated

#endif
