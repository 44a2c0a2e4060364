// Runs a launch: blocks in order, those of a large one on two threads of the operating system, and in a block its threads
// as fibres.
//
// Warp after warp, each thread runs until it ends or comes to a barrier, of its warp or of its block. A fibre whose
// thread has ended takes the next one without switching stacks, so that a kernel without barriers runs on one fibre,
// straight through. The order of threads is one of two: a kernel that lacks a barrier gives other results in the one
// or the other.
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "scheduler.hpp"

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

void fill_with_nan(void* at, size_t bytes) { memset(at, 0xff, bytes); }

void work_on_fibre() { current().scheduler->work(); }

// Of a launch, for which waking another thread pays.
constexpr uint64_t many_threads = 2048;

// A thread of the operating system that takes blocks of one launch at a time.
class Helper {
public:
    // Has it take blocks of `work`; false if it is at another.
    bool begin(Work& work) {
        std::lock_guard lock(mutex_);
        if (work_) return false;
        if (!started_) std::thread([this] { serve(); }).detach();
        started_ = true;
        work_ = &work;
        outcome_.reset();
        changed_.notify_all();
        return true;
    }
    // Waits for its last block.
    Outcome end() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return outcome_.has_value(); });
        work_ = nullptr;
        return *outcome_;
    }

private:
    void serve() {
        for (std::unique_lock lock(mutex_);;) {
            changed_.wait(lock, [this] { return work_ && !outcome_; });
            lock.unlock();
            const Outcome outcome = Scheduler::get().run(*work_);
            lock.lock();
            outcome_ = outcome;
            changed_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool started_ = false;
    Work* work_ = nullptr;  // until its launch has seen how it ended
    std::optional<Outcome> outcome_;
};

// Never destroyed, as its thread never ends.
Helper& helper() {
    static Helper& one = *new Helper;
    return one;
}

size_t round_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

}  // namespace

Scheduler::Scheduler() : dynamic_(round_up(most_dynamic_shared, page_bytes()) + page_bytes(), page_bytes()) {
    dynamic_end_ = dynamic_.start() + round_up(most_dynamic_shared, page_bytes());
    mprotect(dynamic_end_, page_bytes(), PROT_NONE);
    free_fibres_.reserve(most_block_threads);
    abandon();
    catch_signals();
}

// ---- A launch -------------------------------------------------------------------------------------------------------

Outcome Scheduler::run(Work& work) {
    launch_ = work.launch;
    int order = chosen_order;
    descending_ = (order < 0 ? order_of_environment() : order) == 1;
    failure_.reset();
    // no mask of signals to keep: the handler runs with SA_NODEFER
    if (sigsetjmp(fault_jump_, 0)) {
        work.next = work.blocks;
        tell_fault();
        abandon();
        return fault_.signal == SIGFPE ? Outcome::failed : Outcome::illegal_address;
    }
    try {
        run_blocks(work);
    } catch (const Failure& failure) {
        work.next = work.blocks;
        tell(failure.why, running_);
        abandon();
        return failure.outcome;
    }
    return Outcome::completed;
}

void Scheduler::run_blocks(Work& work) {
    const dim3 grid = launch_.grid;
    block_ = {{}, launch_.block, grid, dynamic_end_ - round_up(launch_.dynamic_bytes, 16)};
    number_threads();
    first_block_ = true;
    for (uint64_t i; (i = work.next++) < work.blocks; first_block_ = false) {
        block_.index = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
        run_block();
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
            unsigned first = in_order(i, warps) * warp_lanes;
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

// Runs the threads of a warp until each has ended or is at the block's barrier.
void Scheduler::run_warp(unsigned first, unsigned count) {
    warp_ = &threads_[first];
    warp_count_ = count;
    next_to_start_ = warp_->state == State::fresh ? 0 : count;
    do {
        next_to_resume_ = 0;
        run_threads();
    } while (release());
}

// Lets lanes go on that wait for each other and have all come. Whether there were any.
bool Scheduler::release() {
    bool any_released = false, any_waits = false;
    for (unsigned lane = 0; lane < warp_count_; ++lane) {
        const Thread& thread = warp_[lane];
        if (thread.state != State::at_warp_barrier) continue;
        if (all_there(thread)) {
            act_together(thread);
            any_released = true;
        } else {
            any_waits = true;
        }
    }
    if (any_waits && !any_released) stuck();
    return any_released;
}

// Lanes that have ended, or never were in a last warp that is not full, are not waited for.
bool Scheduler::all_there(const Thread& one) const {
    for (unsigned lane = 0; lane < warp_count_; ++lane) {
        const Thread& other = warp_[lane];
        if (!(one.mask >> lane & 1) || other.state == State::done) continue;
        if (other.state != State::at_warp_barrier || other.mask != one.mask || other.act != one.act) return false;
    }
    return true;
}

void Scheduler::act_together(const Thread& one) {
    const uint32_t mask = one.mask;
    const Together act = one.act;
    void* brought[warp_lanes] = {};
    for (unsigned lane = 0; lane < warp_count_; ++lane) {
        Thread& thread = warp_[lane];
        if (!(mask >> lane & 1) || thread.state == State::done) continue;
        brought[lane] = thread.brought;
        thread.state = State::ready;
    }
    act(brought);
}

void Scheduler::stuck() {
    auto waits = [](const Thread& thread) { return thread.state == State::at_warp_barrier; };
    running_ = std::find_if(warp_, warp_ + warp_count_, waits);
    throw Failure{"waits for lanes of its warp, in a shuffle, vote or __syncwarp(), that do not come"};
}

// ---- On and off fibres ------------------------------------------------------------------------------------------------

// From fibre to fibre until no thread of the warp can run.
void Scheduler::run_threads() {
    switch_context(main_, choose_next());
    if (failure_) throw *failure_;
    running_ = nullptr;
}

// Where to go on: at a fibre that will start threads, at a thread that may go on, or at the scheduler.
inline Context& Scheduler::choose_next() {
    if (next_to_start_ < warp_count_) {
        running_fibre_ = free_fibres_.back();
        free_fibres_.pop_back();
        Fibre& fibre = fibres_[running_fibre_];
        if (!fibre.prepared) prepare(running_fibre_);
        return fibre.context;
    }
    while (next_to_resume_ < warp_count_) {
        Thread& thread = warp_[in_order(next_to_resume_++, warp_count_)];
        if (thread.state != State::ready) continue;
        running_ = &thread;
        running_fibre_ = thread.fibre;
        return fibres_[running_fibre_].context;
    }
    return main_;
}

void Scheduler::prepare(unsigned index) {
    Fibre& fibre = fibres_[index];
    char* stack = stacks_.start() + index * stack_bytes;
    if (!fibre.guarded && page_bytes() < stack_bytes / 2) mprotect(stack, page_bytes(), PROT_NONE);
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
        Context& here = fibres_[running_fibre_].context;
        free_fibres_.push_back(running_fibre_);
        switch_context(here, choose_next());
    }
}

bool Scheduler::start_next() {
    if (next_to_start_ == warp_count_) return false;
    const unsigned lane = in_order(next_to_start_++, warp_count_);
    running_ = &warp_[lane];
    running_->fibre = running_fibre_;
    Current& here = current();
    here.thread = running_->index;
    here.lane = lane;
    return true;
}

void Scheduler::wait(State state) {
    running_->state = state;
    Context& here = fibres_[running_fibre_].context;
    switch_context(here, choose_next());
}

void Scheduler::wait_for_warp(uint32_t mask, Together act, void* brought) {
    if (!(mask >> current().lane & 1)) fail({"is not in the mask of its own shuffle, vote or __syncwarp()"});
    running_->mask = mask;
    running_->act = act;
    running_->brought = brought;
    wait(State::at_warp_barrier);
}

void Scheduler::fail(Failure failure) {
    failure_ = std::move(failure);
    switch_context(fibres_[running_fibre_].context, main_);
    __builtin_unreachable();
}

// ---- What a kernel calls ----------------------------------------------------------------------------------------------

void fail(const char* why) { current().scheduler->fail({why}); }

void meet_block() { current().scheduler->wait(State::at_block_barrier); }

void meet_warp(uint32_t mask, Together act, void* brought) { current().scheduler->wait_for_warp(mask, act, brought); }

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
    Work work{launch};
    const uint64_t threads = uint64_t(launch.block.x) * launch.block.y * launch.block.z * work.blocks;
    const bool shared = work.blocks > 1 && threads >= many_threads && helper().begin(work);
    const Outcome own = Scheduler::get().run(work);
    const Outcome other = shared ? helper().end() : Outcome::completed;
    return own == Outcome::completed ? other : own;
}

}  // namespace emulated
