// What the scheduler needs of the operating system: memory, where thread-local variables lie, and signals; and words for
// what goes wrong.
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "memory.hpp"
#include "scheduler.hpp"

namespace emulated {

// ---- Memory -----------------------------------------------------------------------------------------------------------

size_t page_bytes() {
    static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
    return bytes;
}

Pages::Pages(size_t bytes, size_t alignment) : all_bytes_(bytes + alignment) {
    all_ = mmap(nullptr, all_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all_ == MAP_FAILED) throw std::bad_alloc();
    // a huge page would hold the stacks of many fibres that never run
    madvise(all_, all_bytes_, MADV_NOHUGEPAGE);
    start_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(all_) + alignment - 1) / alignment * alignment);
}

Pages::~Pages() { munmap(all_, all_bytes_); }

// ---- Static shared memory -----------------------------------------------------------------------------------------------

// Has an initial value, so it lies in the part of thread-local storage that shared memory is not in. The first use of it
// makes the storage exist.
static constinit thread_local volatile char in_thread_storage = 1;

StaticShared find_static_shared() {
    in_thread_storage = 1;
    StaticShared found;
    auto look = [](dl_phdr_info* info, size_t, void* result) {
        bool ours = false;
        const ElfW(Phdr)* storage = nullptr;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
            const ElfW(Phdr)& part = info->dlpi_phdr[i];
            auto here = reinterpret_cast<uintptr_t>(&find_static_shared) - info->dlpi_addr;
            if (part.p_type == PT_LOAD && here - part.p_vaddr < part.p_memsz) ours = true;
            if (part.p_type == PT_TLS) storage = &part;
        }
        if (ours && storage && info->dlpi_tls_data) {
            char* start = static_cast<char*>(info->dlpi_tls_data) + storage->p_filesz;
            *static_cast<StaticShared*>(result) = {start, storage->p_memsz - storage->p_filesz};
        }
        return int(ours);
    };
    dl_iterate_phdr(look, &found);
    return found;
}

// ---- The scheduler of a thread ------------------------------------------------------------------------------------------

namespace {

// Not `thread_local`, since what is in this library belongs to static shared memory.
pthread_key_t scheduler_key() {
    static const pthread_key_t key = [] {
        pthread_key_t made;
        pthread_key_create(&made, [](void* scheduler) { delete static_cast<Scheduler*>(scheduler); });
        return made;
    }();
    return key;
}

}  // namespace

Scheduler* Scheduler::existing() { return static_cast<Scheduler*>(pthread_getspecific(scheduler_key())); }

Scheduler& Scheduler::get() {
    Scheduler* scheduler = existing();
    if (!scheduler) {
        scheduler = new Scheduler;
        pthread_setspecific(scheduler_key(), scheduler);
    }
    return *scheduler;
}

// ---- Signals ------------------------------------------------------------------------------------------------------------

namespace {

constexpr int caught_signals[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction former_actions[std::size(caught_signals)];

void on_signal(int signal, siginfo_t* info, void* state) {
    if (Scheduler* scheduler = Scheduler::existing(); scheduler && scheduler->runs_kernel()) {
        void* code = nullptr;
#if defined(__x86_64__)
        code = reinterpret_cast<void*>(static_cast<ucontext_t*>(state)->uc_mcontext.gregs[REG_RIP]);
#endif
        scheduler->fault({signal, info->si_addr, code});
    }
    // not a kernel's: happens once more under the handler that was there before
    auto which = std::find(std::begin(caught_signals), std::end(caught_signals), signal) - caught_signals;
    sigaction(signal, &former_actions[which], nullptr);
}

}  // namespace

void catch_signals() {
    static const bool once = [] {
        scheduler_key();
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (size_t i = 0; i < std::size(caught_signals); ++i) {
            sigaction(caught_signals[i], &action, &former_actions[i]);
        }
        return true;
    }();
    (void)once;
}

SignalStack::SignalStack() {
    stack_t present;
    sigaltstack(nullptr, &present);
    if (!(present.ss_flags & SS_DISABLE)) return;
    const size_t bytes = std::max<size_t>(64 * 1024, size_t(SIGSTKSZ));
    stack_ = std::make_unique<char[]>(bytes);
    stack_t ours{stack_.get(), 0, bytes};
    sigaltstack(&ours, nullptr);
}

SignalStack::~SignalStack() {
    if (!stack_) return;
    stack_t none{nullptr, SS_DISABLE, 0};
    sigaltstack(&none, nullptr);
}

void Scheduler::fault(const Fault& fault) {
    fault_ = fault;
    siglongjmp(fault_jump_, 1);
}

// ---- Telling what went wrong --------------------------------------------------------------------------------------------

void Scheduler::tell(const std::string& why, const Thread* thread) const {
    const uint3 b = block_.index, t = thread ? thread->index : uint3{};
    fprintf(stderr, "emulated driver: %s, block (%u, %u, %u), thread (%u, %u, %u): %s\n", launch_.kernel->name, b.x, b.y,
            b.z, t.x, t.y, t.z, why.c_str());
}

void Scheduler::tell_fault() const {
    const auto address = reinterpret_cast<uintptr_t>(fault_.address);
    if (fault_.signal == SIGFPE) {
        tell("divides an integer by zero", running_);
    } else if (address - reinterpret_cast<uintptr_t>(stacks_.start()) < most_block_threads * stack_bytes) {
        tell("needs more than its stack", running_);
    } else if (address - reinterpret_cast<uintptr_t>(dynamic_end_) < page_bytes()) {
        tell("leaves the shared memory that its launch asked for", running_);
    } else {
        char hexadecimal[32];
        snprintf(hexadecimal, sizeof hexadecimal, "0x%tx", address);
        tell("accesses " + (hexadecimal + (", no memory of the device" + memory::describe(address))), running_);
    }
    if (Dl_info library; fault_.code && dladdr(fault_.code, &library)) {
        const auto offset = static_cast<char*>(fault_.code) - static_cast<char*>(library.dli_fbase);
        fprintf(stderr, "emulated driver: its line: addr2line -i -e %s %#tx\n", library.dli_fname, offset);
    }
}

// ---- Checks in kernels --------------------------------------------------------------------------------------------------

// Kernels are compiled with checks of two kinds; the compiler calls these where one fails, with the place in the source
// as the first of what it knows.
struct CheckedPlace {
    const char* file;
    uint32_t line, column;
    std::string text() const { return std::string(" at ") + file + ":" + std::to_string(line); }
};

extern "C" void __ubsan_handle_type_mismatch_v1(const CheckedPlace* place, void*) {
    std::string why = "accesses memory that is not aligned to the type it is read or written as," + place->text();
    current().scheduler->fail({why, Outcome::misaligned_address});
}

extern "C" void __ubsan_handle_out_of_bounds(const CheckedPlace* place, void*) {
    current().scheduler->fail({"leaves an array," + place->text(), Outcome::illegal_address});
}

}  // namespace emulated
