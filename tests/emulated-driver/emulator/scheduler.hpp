// What runs the threads of a launch.
#pragma once

#include <setjmp.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fibre.hpp"
#include "launcher.hpp"

namespace emulated {

size_t page_bytes();

// Memory of its own, at an address that is a multiple of `alignment`.
class Pages {
public:
    Pages(size_t bytes, size_t alignment);
    ~Pages();
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

StaticShared find_static_shared();

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

// What a thread does wrong, in words that go after its name.
struct Failure {
    std::string why;
    Outcome outcome = Outcome::failed;
};

// A signal that a thread raised.
struct Fault {
    int signal = 0;
    void* address = nullptr;
    void* code = nullptr;
};

// A fibre may have used up its stack, so a handler of signals needs another.
class SignalStack {
public:
    SignalStack();
    ~SignalStack();

private:
    std::unique_ptr<char[]> stack_;  // none if the thread has one
};

// From now on signals that a kernel raises end its launch.
void catch_signals();

// A launch whose blocks several schedulers take in turn.
struct Work {
    const Launch& launch;
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    std::atomic<uint64_t> next = 0;
};

// One for each thread of the operating system that runs blocks.
class Scheduler {
public:
    Scheduler();

    // That of this thread; null if it never launched.
    static Scheduler* existing();
    static Scheduler& get();

    // Blocks of `work` until there are no more, or one fails.
    Outcome run(Work& work);

    // On a fibre:
    [[noreturn]] void work();
    void wait(State state);
    void wait_for_warp(uint32_t mask, Together act, void* brought);
    [[noreturn]] void fail(Failure failure);

    // In a signal handler:
    bool runs_kernel() const { return running_; }
    [[noreturn]] void fault(const Fault& fault);

private:
    void run_blocks(Work& work);
    void run_block();
    void run_warp(unsigned first, unsigned count);
    void run_threads();
    bool release();
    bool all_there(const Thread& one) const;
    void act_together(const Thread& one);
    void number_threads();
    void poison_shared();
    bool start_next();
    Context& choose_next();
    void prepare(unsigned fibre);
    void abandon();
    void tell(const std::string& why, const Thread* thread) const;
    void tell_fault() const;
    unsigned in_order(unsigned i, unsigned count) const { return descending_ ? count - 1 - i : i; }
    [[noreturn]] void stuck();

    Pages stacks_{most_block_threads * stack_bytes, stack_bytes};
    Pages dynamic_;
    char* dynamic_end_;  // meets a page without access
    StaticShared static_ = find_static_shared();
    SignalStack signal_stack_;

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

    // the warp that runs; of its threads in order, the next that has to start and the next that may go on
    Thread* warp_ = nullptr;
    unsigned warp_count_ = 0, next_to_start_ = 0, next_to_resume_ = 0;

    std::optional<Failure> failure_;  // of a thread, for the launch
    sigjmp_buf fault_jump_;
    Fault fault_;
};

}  // namespace emulated
