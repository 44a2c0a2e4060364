// Switching between the stacks of one thread of the operating system.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(OCHE_EMULATED_UCONTEXT)

namespace emulated {

// A computation that is not running: its stack, with the address where it goes on on top.
struct Context {
    void* stack = nullptr;
};

// In line, and with a jump in place of a call and a return: a processor predicts returns by the calls before, which are
// those of another fibre, and a wrong guess costs more than all else here. The compiler keeps what it needs of registers;
// 128 bytes below the stack's end may be in use.
inline __attribute__((always_inline)) void switch_context(Context& from, const Context& to) {
    Context* leave = &from;
    const Context* enter = &to;
    asm volatile(R"(
        lea -128(%%rsp), %%rsp
        push %%rbp
        lea 1f(%%rip), %%rax
        push %%rax
        mov %%rsp, (%0)
        mov (%1), %%rsp
        pop %%rax
        jmp *%%rax
    1:  pop %%rbp
        lea 128(%%rsp), %%rsp
    )"
                 : "+D"(leave), "+S"(enter)
                 :
                 : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",
                   "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                   "xmm15", "cc", "memory");
}

// Makes `entry` what runs at the first switch to `context`; it must never return.
inline void prepare_context(Context& context, char* top, void (*entry)()) {
    auto slot = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
    *--slot = 0;  // in place of a return address: a function expects the alignment that a call leaves
    *--slot = reinterpret_cast<uintptr_t>(entry);
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
    constexpr size_t reserve = 32 * 1024;  // what of the stack the new context may use
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = top - reserve;
    context.state.uc_stack.ss_size = reserve;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

}  // namespace emulated

#endif
