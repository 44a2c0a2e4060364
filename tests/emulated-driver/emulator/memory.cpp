#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <string>

namespace emulated::memory {
namespace {

constexpr size_t granule = 256;  // the alignment of what the driver hands out
constexpr size_t most_retired = 1024;

struct Allocation {
    size_t bytes;
    int device;
    char* pages;  // one without access, the memory, one without access
    size_t page_bytes;
};

struct Retired {
    char* pages;
    size_t bytes;
};

std::mutex mutex;
std::map<Address, Allocation> allocations;
std::map<int, size_t> live;
// Freed memory stays without access for a while, lest a new allocation takes its place and hides a use of the old.
std::deque<Retired> retired;

size_t page() {
    static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
    return bytes;
}

size_t round_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

// A file in memory, all bytes 0xff. New memory is a private copy of it, which costs nothing until it is written.
constexpr size_t pattern_bytes = 4 << 20;

int pattern() {
    static const int file = [] {
        int made = memfd_create("oche-emulated-fresh-memory", MFD_CLOEXEC);
        if (made < 0 || ftruncate(made, pattern_bytes) != 0) return -1;
        void* bytes = mmap(nullptr, pattern_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
        if (bytes == MAP_FAILED) return -1;
        memset(bytes, 0xff, pattern_bytes);
        munmap(bytes, pattern_bytes);
        return made;
    }();
    return file;
}

bool map_fresh(char* at, size_t bytes) {
    for (size_t done = 0; done < bytes; done += pattern_bytes) {
        const size_t piece = std::min(pattern_bytes, bytes - done);
        constexpr int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
        if (mmap(at + done, piece, PROT_READ | PROT_WRITE, flags, pattern(), 0) == MAP_FAILED) return false;
    }
    return true;
}

void retire(char* pages, size_t bytes) {
    mmap(pages, bytes, PROT_NONE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    retired.push_back({pages, bytes});
    if (retired.size() <= most_retired) return;
    munmap(retired.front().pages, retired.front().bytes);
    retired.pop_front();
}

// The allocation with the greatest start that is not above this address.
auto at_or_below(Address address) {
    auto next = allocations.upper_bound(address);
    return next == allocations.begin() ? allocations.end() : std::prev(next);
}

}  // namespace

Address allocate(size_t bytes, int device) {
    std::lock_guard lock(mutex);
    const size_t body = round_up(std::max<size_t>(bytes, 1), granule);
    const size_t inside = round_up(body, page());
    const size_t all = inside + 2 * page();
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* pages = mmap(nullptr, all, PROT_NONE, flags, -1, 0);
    if (pages == MAP_FAILED) return 0;
    char* first = static_cast<char*>(pages);
    if (!map_fresh(first + page(), inside)) {
        munmap(pages, all);
        return 0;
    }
    const auto start = reinterpret_cast<Address>(first + page() + inside - body);
    allocations[start] = {bytes, device, first, all};
    live[device] += bytes;
    return start;
}

Freed release(Address start) {
    std::lock_guard lock(mutex);
    auto found = allocations.find(start);
    if (found == allocations.end()) return Freed::unknown;
    const Allocation gone = found->second;
    const auto* end = reinterpret_cast<const unsigned char*>(start + gone.bytes);
    const auto* rounded = reinterpret_cast<const unsigned char*>(start + round_up(gone.bytes, granule));
    const bool whole = std::all_of(end, rounded, [](unsigned char byte) { return byte == 0xff; });
    live[gone.device] -= gone.bytes;
    allocations.erase(found);
    retire(gone.pages, gone.page_bytes);
    return whole ? Freed::whole : Freed::written_past_end;
}

bool holds(Address start, size_t bytes) {
    std::lock_guard lock(mutex);
    auto found = at_or_below(start);
    if (found == allocations.end()) return false;
    const size_t before = start - found->first;
    return before <= found->second.bytes && bytes <= found->second.bytes - before;
}

size_t bytes_at(Address start) {
    std::lock_guard lock(mutex);
    auto found = allocations.find(start);
    return found == allocations.end() ? 0 : found->second.bytes;
}

size_t live_bytes(int device) {
    std::lock_guard lock(mutex);
    return live[device];
}

std::string describe(Address address) {
    constexpr size_t near = 1 << 20;
    std::lock_guard lock(mutex);
    for (const Retired& old : retired) {
        if (address - reinterpret_cast<Address>(old.pages) < old.bytes) return " (it was freed)";
    }
    auto below = at_or_below(address), above = allocations.upper_bound(address);
    size_t past = near, before = near;
    if (below != allocations.end()) past = address - (below->first + below->second.bytes);
    if (above != allocations.end()) before = above->first - address;
    if (std::min(past, before) >= near) return "";
    const bool is_past = past < before;
    return " (" + std::to_string(is_past ? past : before) + (is_past ? " bytes past the end" : " bytes before the start") +
           " of an allocation of " + std::to_string((is_past ? below : above)->second.bytes) + ")";
}

}  // namespace emulated::memory
