// Runs a launch: blocks in order, and in a block its threads as fibres.
//
// Warp after warp, each thread runs until it ends or comes to a barrier, of its warp or of its block. A fibre whose
// thread has ended takes the next one without switching stacks, so that a kernel without barriers runs on one fibre,
// straight through. The order of threads is one of two: a kernel that lacks a barrier gives other results in the one
// or the other.
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "fibre.hpp"
#include "launcher.hpp"

#if defined(__x86_64__)
// Keeps what the calling convention of System V asks a function to keep, and goes on where `to` left off.
asm(R"(
    .text
    .globl emulated_switch
    .hidden emulated_switch
    .type emulated_switch, @function
emulated_switch:
    push %r15
    push %r14
    push %r13
    push %r12
    push %rbp
    push %rbx
    mov %rsp, (%rdi)
    mov (%rsi), %rsp
    pop %rbx
    pop %rbp
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    ret
    .size emulated_switch, . - emulated_switch
)");
#endif

namespace emulated {
namespace {

std::map<std::string_view, Kernel>& kernels() {
    static std::map<std::string_view, Kernel> all;
    return all;
}

int order_of_environment() {
    const char* text = getenv("OCHE_EMULATED_ORDER");
    return text && atoi(text) == 1;
}
std::atomic<int> chosen_order = -1;

size_t page_bytes() {
    static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
    return bytes;
}

// Memory of its own pages, at an address that is a multiple of `alignment`.
class Pages {
public:
    Pages(size_t bytes, size_t alignment) : all_bytes_(bytes + alignment) {
        all_ = mmap(nullptr, all_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (all_ == MAP_FAILED) throw std::bad_alloc();
        // a huge page would hold the stacks of many fibres that never run
        madvise(all_, all_bytes_, MADV_NOHUGEPAGE);
        start_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(all_) + alignment - 1) / alignment * alignment);
    }
    ~Pages() { munmap(all_, all_bytes_); }
    Pages(const Pages&) = delete;

    char* start() const { return start_; }

private:
    void* all_;
    size_t all_bytes_;
    char* start_;
};

// The static shared memory of every kernel, as this thread of the operating system sees it. The variables have no
// initial values, so they make up the part of the library's thread-local storage which is not in its file.
struct StaticShared {
    char* start = nullptr;
    size_t bytes = 0;
};

// Lies in the other part, and exists to make the storage exist.
constinit thread_local volatile char in_thread_storage = 1;

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

void fill_with_nan(void* at, size_t bytes) { memset(at, 0xff, bytes); }

enum class State : uint8_t { fresh, ready, at_block_barrier, at_warp_barrier, done };

// A thread of the block that runs.
struct Thread {
    uint3 index;
    State state;
    unsigned fibre;
    // at a barrier of the warp
    uint32_t mask;
    Together act;
    void* brought;
};

struct Fibre {
    Context context;
    bool prepared = false;
    bool guarded = false;
};

struct Failure {
    const char* why;
};

}  // namespace

// One for each thread of the operating system that launches.
class Scheduler {
public:
    Scheduler();
    ~Scheduler();

    Outcome run(const Launch& launch);

    // On a fibre:
    [[noreturn]] void work();
    void wait(State state);
    void wait_for_warp(uint32_t mask, Together act, void* brought);
    [[noreturn]] void fail(const char* why);

    // In a signal handler:
    bool runs_kernel() const { return running_; }
    [[noreturn]] void fault(int signal, void* address, void* code);

private:
    void run_blocks();
    void run_block();
    void run_warp(unsigned first, unsigned count);
    void start_threads();
    bool resume_ready(unsigned first, unsigned count);
    bool release(unsigned first, unsigned count);
    bool all_there(const Thread& one, unsigned first, unsigned count) const;
    void act_together(const Thread& one, unsigned first, unsigned count);
    void number_threads();
    void poison_shared();
    bool start_next();
    void enter(unsigned fibre);
    void prepare(unsigned fibre);
    void abandon();
    void tell(const char* why, const Thread* thread) const;
    void tell_fault() const;
    unsigned in_order(unsigned first, unsigned count, unsigned i) const {
        return descending_ ? first + count - 1 - i : first + i;
    }
    [[noreturn]] void stuck(unsigned first, unsigned count);

    Pages stacks_{most_block_threads * stack_bytes, stack_bytes};
    Pages dynamic_;
    StaticShared static_ = find_static_shared();
    std::unique_ptr<char[]> signal_stack_;

    Launch launch_{};
    Block block_{};
    unsigned thread_count_ = 0;
    bool descending_ = false;
    bool first_block_ = false;

    Thread threads_[most_block_threads];
    Fibre fibres_[most_block_threads];
    std::vector<unsigned> free_fibres_;
    Context main_;

    Thread* running_ = nullptr;
    unsigned running_fibre_ = 0;
    // threads of the warp that have not started yet: from `next_` to `end_` of the warp's `count`
    unsigned warp_first_ = 0, warp_count_ = 0, next_ = 0;

    const char* failure_ = nullptr;
    sigjmp_buf fault_jump_;
    int fault_signal_ = 0;
    void* fault_address_ = nullptr;
    void* fault_code_ = nullptr;
};

namespace {

// ---- Scheduler of this thread, and faults -----------------------------------------------------------------------------

// Not `thread_local`, since what is in this library belongs to static shared memory.
pthread_key_t scheduler_key() {
    static const pthread_key_t key = [] {
        pthread_key_t made;
        pthread_key_create(&made, [](void* scheduler) { delete static_cast<Scheduler*>(scheduler); });
        return made;
    }();
    return key;
}

Scheduler* existing_scheduler() { return static_cast<Scheduler*>(pthread_getspecific(scheduler_key())); }

constexpr int caught_signals[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction former_actions[std::size(caught_signals)];

void on_signal(int signal, siginfo_t* info, void* state) {
    if (Scheduler* scheduler = existing_scheduler(); scheduler && scheduler->runs_kernel()) {
        void* code = nullptr;
#if defined(__x86_64__)
        code = reinterpret_cast<void*>(static_cast<ucontext_t*>(state)->uc_mcontext.gregs[REG_RIP]);
#endif
        scheduler->fault(signal, info->si_addr, code);
    }
    // not a kernel's: happens once more under the handler that was there before
    auto which = std::find(std::begin(caught_signals), std::end(caught_signals), signal) - caught_signals;
    sigaction(signal, &former_actions[which], nullptr);
}

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

void work_on_fibre() { current().scheduler->work(); }

}  // namespace

// A fibre may have run out of its stack, so a handler of signals needs another.
Scheduler::Scheduler() : dynamic_(most_dynamic_shared + 2 * page_bytes(), page_bytes()) {
    mprotect(dynamic_.start() + (most_dynamic_shared + page_bytes() - 1) / page_bytes() * page_bytes(), page_bytes(), PROT_NONE);
    free_fibres_.reserve(most_block_threads);
    abandon();
    catch_signals();
    stack_t present;
    sigaltstack(nullptr, &present);
    if (present.ss_flags & SS_DISABLE) {
        const size_t bytes = std::max<size_t>(64 * 1024, size_t(SIGSTKSZ));
        signal_stack_ = std::make_unique<char[]>(bytes);
        stack_t ours{signal_stack_.get(), 0, bytes};
        sigaltstack(&ours, nullptr);
    }
}

Scheduler::~Scheduler() {
    if (!signal_stack_) return;
    stack_t none{nullptr, SS_DISABLE, 0};
    sigaltstack(&none, nullptr);
}

// ---- A launch -------------------------------------------------------------------------------------------------------

Outcome Scheduler::run(const Launch& launch) {
    launch_ = launch;
    int order = chosen_order;
    descending_ = (order < 0 ? order_of_environment() : order) == 1;
    failure_ = nullptr;
    // no mask of signals to keep: the handler runs with SA_NODEFER
    if (sigsetjmp(fault_jump_, 0)) {
        tell_fault();
        abandon();
        return fault_signal_ == SIGFPE ? Outcome::failed : Outcome::illegal_address;
    }
    try {
        run_blocks();
    } catch (const Failure& failure) {
        tell(failure.why, running_);
        abandon();
        return Outcome::failed;
    }
    return Outcome::completed;
}

void Scheduler::run_blocks() {
    const dim3 grid = launch_.grid;
    const size_t aligned = (launch_.dynamic_bytes + 15) / 16 * 16;
    const size_t whole = (most_dynamic_shared + page_bytes() - 1) / page_bytes() * page_bytes();
    block_ = {{}, launch_.block, grid, dynamic_.start() + whole - aligned};  // its end meets a page without access
    number_threads();
    first_block_ = true;
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                block_.index = {x, y, z};
                run_block();
                first_block_ = false;
            }
        }
    }
}

void Scheduler::number_threads() {
    const dim3 size = launch_.block;
    Thread* thread = threads_;
    for (unsigned z = 0; z < size.z; ++z) {
        for (unsigned y = 0; y < size.y; ++y) {
            for (unsigned x = 0; x < size.x; ++x) (thread++)->index = {x, y, z};
        }
    }
    thread_count_ = unsigned(thread - threads_);
}

// Static shared memory of all kernels together may be much, and is then filled for a launch's first block only.
void Scheduler::poison_shared() {
    constexpr size_t little = 32 * 1024;
    fill_with_nan(block_.dynamic_shared, launch_.dynamic_bytes);
    if (first_block_ || static_.bytes <= little) fill_with_nan(static_.start, static_.bytes);
}

void Scheduler::run_block() {
    poison_shared();
    for (unsigned i = 0; i < thread_count_; ++i) threads_[i].state = State::fresh;
    const unsigned warps = (thread_count_ + warp_lanes - 1) / warp_lanes;
    for (;;) {
        for (unsigned i = 0; i < warps; ++i) {
            unsigned first = in_order(0, warps, i) * warp_lanes;
            run_warp(first, std::min(warp_lanes, thread_count_ - first));
        }
        // now every thread is at the block's barrier or done
        auto waits = [](const Thread& thread) { return thread.state == State::at_block_barrier; };
        Thread* end = threads_ + thread_count_;
        const auto waiting = std::count_if(threads_, end, waits);
        if (waiting == 0) return;
        if (waiting < thread_count_) {
            running_ = std::find_if(threads_, end, waits);
            throw Failure{"waits at __syncthreads() for threads of its block that have ended"};
        }
        for (unsigned i = 0; i < thread_count_; ++i) threads_[i].state = State::ready;
    }
}

void Scheduler::run_warp(unsigned first, unsigned count) {
    if (threads_[first].state == State::fresh) {
        warp_first_ = first;
        warp_count_ = count;
        next_ = 0;
        start_threads();
    } else {
        resume_ready(first, count);
    }
    while (release(first, count)) resume_ready(first, count);
    for (unsigned i = first; i < first + count; ++i) {
        if (threads_[i].state == State::at_warp_barrier) stuck(first, count);
    }
}

void Scheduler::start_threads() {
    while (next_ < warp_count_) {
        unsigned fibre = free_fibres_.back();
        free_fibres_.pop_back();
        enter(fibre);
    }
}

bool Scheduler::resume_ready(unsigned first, unsigned count) {
    bool any = false;
    for (unsigned i = 0; i < count; ++i) {
        Thread& thread = threads_[in_order(first, count, i)];
        if (thread.state != State::ready) continue;
        any = true;
        running_ = &thread;
        enter(thread.fibre);
    }
    return any;
}

// Lets the lanes go on that wait for each other and have all come. Whether there were any.
bool Scheduler::release(unsigned first, unsigned count) {
    bool any = false;
    for (unsigned i = first; i < first + count; ++i) {
        const Thread& thread = threads_[i];
        if (thread.state != State::at_warp_barrier || !all_there(thread, first, count)) continue;
        act_together(thread, first, count);
        any = true;
    }
    return any;
}

// Lanes that have ended, or never were in a last warp that is not full, are not waited for.
bool Scheduler::all_there(const Thread& one, unsigned first, unsigned count) const {
    for (unsigned lane = 0; lane < count; ++lane) {
        const Thread& other = threads_[first + lane];
        if (!(one.mask >> lane & 1) || other.state == State::done) continue;
        if (other.state != State::at_warp_barrier || other.mask != one.mask || other.act != one.act) return false;
    }
    return true;
}

void Scheduler::act_together(const Thread& one, unsigned first, unsigned count) {
    const uint32_t mask = one.mask;
    const Together act = one.act;
    void* brought[warp_lanes] = {};
    for (unsigned lane = 0; lane < count; ++lane) {
        Thread& thread = threads_[first + lane];
        if (!(mask >> lane & 1) || thread.state != State::at_warp_barrier) continue;
        brought[lane] = thread.brought;
        thread.state = State::ready;
    }
    act(brought);
}

void Scheduler::stuck(unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; ++i) {
        if (threads_[i].state != State::at_warp_barrier) continue;
        running_ = &threads_[i];
        break;
    }
    throw Failure{"waits for lanes of its warp, in a shuffle, vote or __syncwarp(), that do not come"};
}

// ---- On and off fibres ------------------------------------------------------------------------------------------------

void Scheduler::enter(unsigned fibre) {
    if (!fibres_[fibre].prepared) prepare(fibre);
    running_fibre_ = fibre;
    switch_context(main_, fibres_[fibre].context);
    if (failure_) throw Failure{failure_};
    running_ = nullptr;
}

void Scheduler::prepare(unsigned index) {
    Fibre& fibre = fibres_[index];
    char* stack = stacks_.start() + index * stack_bytes;
    if (!fibre.guarded) mprotect(stack, page_bytes(), PROT_NONE);
    fibre.guarded = true;
    auto* top = reinterpret_cast<Current*>(stack + stack_bytes) - 1;
    *top = {{}, 0, &block_, this};
    // Stacks that all began at the same offset of a page would compete for the same lines of the cache.
    const size_t offset = index % 16 * 192;
    prepare_context(fibre.context, reinterpret_cast<char*>(top) - offset, work_on_fibre);
    fibre.prepared = true;
}

// Leaves the fibres of a launch that failed where they are, to begin anew with the next launch.
void Scheduler::abandon() {
    for (Fibre& fibre : fibres_) fibre.prepared = false;
    free_fibres_.clear();
    for (unsigned i = most_block_threads; i-- > 0;) free_fibres_.push_back(i);
    running_ = nullptr;
}

// What every fibre does: thread after thread while there are any that have not started.
void Scheduler::work() {
    for (;;) {
        while (start_next()) {
            launch_.kernel->run(launch_.arguments);
            running_->state = State::done;
        }
        free_fibres_.push_back(running_fibre_);
        switch_context(fibres_[running_fibre_].context, main_);
    }
}

bool Scheduler::start_next() {
    if (next_ == warp_count_) return false;
    const unsigned index = in_order(warp_first_, warp_count_, next_++);
    running_ = &threads_[index];
    running_->fibre = running_fibre_;
    Current& here = current();
    here.thread = running_->index;
    here.lane = index % warp_lanes;
    return true;
}

void Scheduler::wait(State state) {
    running_->state = state;
    switch_context(fibres_[running_fibre_].context, main_);
}

void Scheduler::wait_for_warp(uint32_t mask, Together act, void* brought) {
    if (!(mask >> current().lane & 1)) fail("is not in the mask of its own shuffle, vote or __syncwarp()");
    running_->mask = mask;
    running_->act = act;
    running_->brought = brought;
    wait(State::at_warp_barrier);
}

void Scheduler::fail(const char* why) {
    failure_ = why;
    switch_context(fibres_[running_fibre_].context, main_);
    __builtin_unreachable();
}

void Scheduler::fault(int signal, void* address, void* code) {
    fault_signal_ = signal;
    fault_address_ = address;
    fault_code_ = code;
    siglongjmp(fault_jump_, 1);
}

// ---- Telling what went wrong --------------------------------------------------------------------------------------------

void Scheduler::tell(const char* why, const Thread* thread) const {
    const uint3 b = block_.index, t = thread ? thread->index : uint3{};
    fprintf(stderr, "emulated driver: %s, block (%u, %u, %u), thread (%u, %u, %u): %s\n", launch_.kernel->name, b.x, b.y, b.z,
            t.x, t.y, t.z, why);
}

void Scheduler::tell_fault() const {
    char why[160];
    if (fault_signal_ == SIGFPE) {
        snprintf(why, sizeof why, "divides an integer by zero");
    } else {
        snprintf(why, sizeof why, "accesses %p, which is no memory of the device", fault_address_);
    }
    tell(why, running_);
    if (Dl_info library; fault_code_ && dladdr(fault_code_, &library)) {
        const auto offset = static_cast<char*>(fault_code_) - static_cast<char*>(library.dli_fbase);
        fprintf(stderr, "emulated driver: its line: addr2line -i -e %s %#tx\n", library.dli_fname, offset);
    }
}

// ---- What a kernel calls ----------------------------------------------------------------------------------------------

void fail(const char* why) { current().scheduler->fail(why); }

void meet_block() { current().scheduler->wait(State::at_block_barrier); }

void meet_warp(uint32_t mask, Together act, void* brought) { current().scheduler->wait_for_warp(mask, act, brought); }

void only_meet(Lanes&) {}

// What comes from a lane that takes no part is undefined: NaN, or a large number.
void deliver(Lanes& letters) {
    for (void* one : letters) {
        if (!one) continue;
        auto* letter = static_cast<Letter*>(one);
        auto* from = static_cast<const Letter*>(letters[letter->from % warp_lanes]);
        letter->received = from ? from->sent : ~uint64_t(0);
    }
}

void ballot(Lanes& votes) {
    uint32_t all = 0;
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
        if (votes[lane] && static_cast<Vote*>(votes[lane])->yes) all |= 1u << lane;
    }
    for (void* one : votes) {
        if (one) static_cast<Vote*>(one)->all = all;
    }
}

void multiply_fragments(Lanes& fragments) {
    float a[16][16], b[8][16];
    auto low = [](uint32_t word) { return std::bit_cast<float>(word << 16); };
    auto high = [](uint32_t word) { return std::bit_cast<float>(word & 0xffff0000u); };
    auto of = [&](unsigned lane) {
        static constexpr uint32_t nan[4] = {~0u, ~0u, ~0u, ~0u};
        return fragments[lane] ? *static_cast<Fragments*>(fragments[lane]) : Fragments{nullptr, nan, nan};
    };
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
        const Fragments its = of(lane);
        const unsigned row = lane / 4, pair = lane % 4 * 2;
        for (unsigned i = 0; i < 4; ++i) {
            float* to = &a[row + i % 2 * 8][pair + i / 2 * 8];
            to[0] = low(its.a[i]);
            to[1] = high(its.a[i]);
        }
        for (unsigned i = 0; i < 2; ++i) {
            float* to = &b[row][pair + i * 8];
            to[0] = low(its.b[i]);
            to[1] = high(its.b[i]);
        }
    }
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
        float* d = of(lane).d;
        for (unsigned i = 0; d && i < 4; ++i) {
            const float* x = a[lane / 4 + i / 2 * 8];
            const float* y = b[lane % 4 * 2 + i % 2];
            float sum = 0;
            for (int k = 0; k < 16; ++k) sum += x[k] * y[k];
            d[i] += sum;
        }
    }
}

// ---- What the driver calls ----------------------------------------------------------------------------------------------

Registration::Registration(const Kernel& kernel) {
    if (!kernels().emplace(kernel.name, kernel).second) {
        fprintf(stderr, "emulated driver: two kernels are called %s\n", kernel.name);
        abort();
    }
}

const Kernel* find_kernel(std::string_view name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

void choose_order(int order) { chosen_order = order; }

Outcome run(const Launch& launch) {
    Scheduler* scheduler = existing_scheduler();
    if (!scheduler) {
        scheduler = new Scheduler;
        pthread_setspecific(scheduler_key(), scheduler);
    }
    return scheduler->run(launch);
}

}  // namespace emulated
