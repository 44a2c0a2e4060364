// The driver's entry points for streams, events, captures and graphs.
#include "streams.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace emulated {
namespace {

using Clock = std::chrono::steady_clock;

enum Mode { global_mode = 0, thread_local_mode = 1, relaxed_mode = 2 };

struct Stream;

struct Graph {
    std::vector<Work> nodes;
};

struct Capture {
    Stream* origin;
    int mode;
    pthread_t thread;
    std::vector<Stream*> streams;  // the origin, and those that wait for it
    std::unique_ptr<Graph> graph = std::make_unique<Graph>();
    bool spoilt = false;
};

struct Stream {
    Context* context;
    unsigned flags;
    int priority;
    std::shared_ptr<Capture> capture;
    // what was captured here, and how much of that another stream of the capture has waited for
    uint64_t captured = 0, joined = 0;

    bool blocking() const { return !(flags & 1); }
};

struct Event {
    unsigned flags;
    bool recorded = false;
    Clock::time_point time;
    // if it was recorded by a capture
    bool captured = false;
    std::weak_ptr<Capture> capture;
    Stream* stream = nullptr;
    uint64_t position = 0;

    bool has_time() const { return !(flags & 2); }
};

struct ReadyGraph {
    std::shared_ptr<const std::vector<Work>> nodes;
};

Handles<Stream> streams;
Handles<Event> events;
Handles<Graph> graphs;
Handles<ReadyGraph> ready_graphs;

// Over captures and the events that belong to them.
std::recursive_mutex capture_mutex;
std::vector<std::shared_ptr<Capture>> captures;
using CaptureLock = std::lock_guard<std::recursive_mutex>;

bool is_legacy(const void* handle) { return reinterpret_cast<uintptr_t>(handle) <= 2; }

Result find_stream(void* handle, Stream*& stream) {
    stream = is_legacy(handle) ? nullptr : streams.find(handle);
    return stream || is_legacy(handle) ? SUCCESS : ERROR_INVALID_HANDLE;
}

Result spoil(Capture& capture, Result why) {
    capture.spoilt = true;
    return why;
}

void leave(Capture& capture) {
    for (Stream* stream : capture.streams) stream->capture.reset();
    std::erase_if(captures, [&](const auto& other) { return other.get() == &capture; });
}

void enter(Stream& stream, const std::shared_ptr<Capture>& capture) {
    stream.capture = capture;
    stream.captured = 1;
    stream.joined = 0;
    capture->streams.push_back(&stream);
}

Result spoil_if(Result why, auto condition) {
    Result result = SUCCESS;
    for (const auto& capture : captures) {
        if (condition(*capture)) result = spoil(*capture, why);
    }
    return result;
}

// Work on the legacy stream would wait for streams that block it, some of which may capture.
Result legacy_is_free() {
    auto blocks = [](const Capture& capture) {
        auto its = [](const Stream* stream) { return stream->context == current_context() && stream->blocking(); };
        return std::ranges::any_of(capture.streams, its);
    };
    return spoil_if(ERROR_STREAM_CAPTURE_IMPLICIT, blocks);
}

Result record(Stream& stream, Work work) {
    if (stream.capture->spoilt) return ERROR_STREAM_CAPTURE_INVALIDATED;
    stream.capture->graph->nodes.push_back(std::move(work));
    ++stream.captured;
    ++counters.captured_nodes;
    return SUCCESS;
}

Result run_all(const std::vector<Work>& nodes) {
    for (const Work& node : nodes) {
        if (Result result = node()) return result;
    }
    return SUCCESS;
}

}  // namespace

Result submit(void* handle, Work work) {
    if (Result result = ready()) return result;
    Stream* stream;
    if (Result result = find_stream(handle, stream)) return result;
    {
        CaptureLock lock(capture_mutex);
        if (!stream) {
            if (Result result = legacy_is_free()) return result;
        } else if (stream->capture) {
            return record(*stream, std::move(work));
        }
    }
    return work();
}

Result allowed_during_capture() {
    CaptureLock lock(capture_mutex);
    auto forbids = [](const Capture& capture) {
        if (capture.mode == thread_local_mode) return pthread_equal(capture.thread, pthread_self()) != 0;
        return capture.mode == global_mode;
    };
    return spoil_if(ERROR_STREAM_CAPTURE_UNSUPPORTED, forbids);
}

Result allowed_on(void* handle) {
    if (Result result = ready()) return result;
    Stream* stream;
    if (Result result = find_stream(handle, stream)) return result;
    CaptureLock lock(capture_mutex);
    if (!stream) return legacy_is_free();
    return stream->capture ? spoil(*stream->capture, ERROR_STREAM_CAPTURE_UNSUPPORTED) : SUCCESS;
}

Result allowed_for_whole_device() {
    if (Result result = ready()) return result;
    CaptureLock lock(capture_mutex);
    return spoil_if(ERROR_STREAM_CAPTURE_UNSUPPORTED,
                    [](const Capture& capture) { return capture.origin->context == current_context(); });
}

Result ready_for_synchronous_work() {
    if (Result result = ready()) return result;
    CaptureLock lock(capture_mutex);
    if (Result result = allowed_during_capture()) return result;
    return legacy_is_free();
}

bool is_capturing(void* handle) {
    CaptureLock lock(capture_mutex);
    const Stream* stream = is_legacy(handle) ? nullptr : streams.find(handle);
    return stream && stream->capture;
}

void forget_captures() {
    CaptureLock lock(capture_mutex);
    while (!captures.empty()) leave(*std::shared_ptr(captures.back()));
}

}  // namespace emulated

using namespace emulated;

// ---- Streams ----------------------------------------------------------------------------------------------------------

ENTRY cuStreamCreateWithPriority(void** stream, unsigned flags, int priority) {
    if (Result result = ready()) return result;
    *stream = streams.add(std::make_unique<Stream>(Stream{current_context(), flags, priority, nullptr}));
    return SUCCESS;
}
ENTRY cuStreamCreate(void** stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

ENTRY cuStreamDestroy_v2(void* handle) {
    Stream* stream = streams.find(handle);
    if (!stream) return ERROR_INVALID_HANDLE;
    CaptureLock lock(capture_mutex);
    if (auto capture = stream->capture) leave(*capture);
    streams.remove(handle);
    return broken();
}

ENTRY cuStreamGetPriority(void* handle, int* priority) {
    const Stream* stream = streams.find(handle);
    *priority = stream ? stream->priority : 0;
    return ready();
}
ENTRY cuStreamGetFlags(void* handle, unsigned* flags) {
    const Stream* stream = streams.find(handle);
    *flags = stream ? stream->flags : 0;
    return ready();
}

ENTRY cuStreamSynchronize(void* stream) { return allowed_on(stream); }
ENTRY cuStreamQuery(void* stream) { return allowed_on(stream); }
ENTRY cuCtxSynchronize() { return allowed_for_whole_device(); }

ENTRY cuStreamWaitEvent(void* stream_handle, void* event_handle, unsigned) {
    if (Result result = ready()) return result;
    Stream* stream;
    if (Result result = find_stream(stream_handle, stream)) return result;
    CaptureLock lock(capture_mutex);
    Event* event = events.find(event_handle);
    if (!event) return ERROR_INVALID_HANDLE;
    if (!event->captured) {
        if (!event->recorded || !stream || !stream->capture) return SUCCESS;
        return spoil(*stream->capture, ERROR_STREAM_CAPTURE_ISOLATION);
    }
    auto capture = event->capture.lock();
    if (!capture) return ERROR_CAPTURED_EVENT;
    if (!stream) return spoil(*capture, ERROR_STREAM_CAPTURE_IMPLICIT);
    if (!stream->capture) enter(*stream, capture);
    if (stream->capture != capture) return spoil(*stream->capture, spoil(*capture, ERROR_STREAM_CAPTURE_MERGE));
    if (event->stream != stream) event->stream->joined = std::max(event->stream->joined, event->position);
    return SUCCESS;
}

ENTRY cuLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
    return submit(stream, [=] { return function(data), SUCCESS; });
}

// ---- Events -----------------------------------------------------------------------------------------------------------

ENTRY cuEventCreate(void** event, unsigned flags) {
    if (Result result = ready()) return result;
    auto made = std::make_unique<Event>();
    made->flags = flags;
    *event = events.add(std::move(made));
    return SUCCESS;
}

ENTRY cuEventDestroy_v2(void* event) {
    CaptureLock lock(capture_mutex);
    return events.remove(event) ? broken() : ERROR_INVALID_HANDLE;
}

ENTRY cuEventRecord(void* event_handle, void* stream_handle) {
    if (Result result = ready()) return result;
    Stream* stream;
    if (Result result = find_stream(stream_handle, stream)) return result;
    CaptureLock lock(capture_mutex);
    Event* event = events.find(event_handle);
    if (!event) return ERROR_INVALID_HANDLE;
    if (!stream) {
        if (Result result = legacy_is_free()) return result;
    }
    event->recorded = true;
    event->time = Clock::now();
    event->stream = stream;
    event->captured = stream && stream->capture;
    if (event->captured) {
        event->capture = stream->capture;
        event->position = stream->captured;
    }
    return SUCCESS;
}
ENTRY cuEventRecordWithFlags(void* event, void* stream, unsigned) { return cuEventRecord(event, stream); }

ENTRY cuEventQuery(void* handle) {
    if (Result result = ready()) return result;
    const Event* event = events.find(handle);
    if (!event) return ERROR_INVALID_HANDLE;
    return event->captured ? ERROR_CAPTURED_EVENT : SUCCESS;
}
ENTRY cuEventSynchronize(void* event) { return cuEventQuery(event); }

ENTRY cuEventElapsedTime(float* milliseconds, void* first, void* last) {
    if (Result result = ready()) return result;
    const Event *from = events.find(first), *to = events.find(last);
    auto usable = [](const Event* event) { return event && event->recorded && event->has_time(); };
    if (!usable(from) || !usable(to)) return ERROR_INVALID_HANDLE;
    if (from->captured || to->captured) return ERROR_CAPTURED_EVENT;
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
    return SUCCESS;
}
ENTRY cuEventElapsedTime_v2(float* milliseconds, void* first, void* last) {
    return cuEventElapsedTime(milliseconds, first, last);
}

// ---- Captures ---------------------------------------------------------------------------------------------------------

ENTRY cuStreamBeginCapture_v2(void* handle, int mode) {
    if (Result result = ready()) return result;
    if (mode < global_mode || mode > relaxed_mode) return ERROR_INVALID_VALUE;
    if (is_legacy(handle)) return ERROR_STREAM_CAPTURE_UNSUPPORTED;
    CaptureLock lock(capture_mutex);
    Stream* stream = streams.find(handle);
    if (!stream) return ERROR_INVALID_HANDLE;
    if (stream->capture) return spoil(*stream->capture, ERROR_ILLEGAL_STATE);
    auto capture = std::make_shared<Capture>(Capture{stream, mode, pthread_self(), {}});
    enter(*stream, capture);
    captures.push_back(capture);
    return SUCCESS;
}

ENTRY cuStreamEndCapture(void* handle, void** graph) {
    *graph = nullptr;
    CaptureLock lock(capture_mutex);
    Stream* stream = streams.find(handle);
    if (!stream) return ERROR_INVALID_HANDLE;
    auto capture = stream->capture;
    if (!capture) return ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) return spoil(*capture, ERROR_STREAM_CAPTURE_UNMATCHED);
    const bool same_thread = pthread_equal(capture->thread, pthread_self());
    if (capture->mode != relaxed_mode && !same_thread) return ERROR_STREAM_CAPTURE_WRONG_THREAD;
    leave(*capture);
    if (capture->spoilt) return ERROR_STREAM_CAPTURE_INVALIDATED;
    auto unjoined = [&](const Stream* other) { return other != stream && other->joined < other->captured; };
    if (std::ranges::any_of(capture->streams, unjoined)) return ERROR_STREAM_CAPTURE_UNJOINED;
    if (Result result = ready()) return result;
    *graph = graphs.add(std::move(capture->graph));
    return SUCCESS;
}

ENTRY cuStreamIsCapturing(void* handle, int* status) {
    if (Result result = ready()) return result;
    Stream* stream;
    if (Result result = find_stream(handle, stream)) return result;
    CaptureLock lock(capture_mutex);
    const bool active = stream && stream->capture;
    *status = !active ? 0 : stream->capture->spoilt ? 2 : 1;
    return SUCCESS;
}

// ---- Graphs -----------------------------------------------------------------------------------------------------------

ENTRY cuGraphInstantiateWithFlags(void** made, void* handle, unsigned long long) {
    if (Result result = ready()) return result;
    const Graph* graph = graphs.find(handle);
    if (!graph) return ERROR_INVALID_HANDLE;
    *made = ready_graphs.add(std::make_unique<ReadyGraph>(ReadyGraph{std::make_shared<std::vector<Work>>(graph->nodes)}));
    return SUCCESS;
}
ENTRY cuGraphInstantiate_v2(void** made, void* graph, void**, char*, size_t) {
    return cuGraphInstantiateWithFlags(made, graph, 0);
}
ENTRY cuGraphInstantiateWithParams(void** made, void* graph, void*) { return cuGraphInstantiateWithFlags(made, graph, 0); }

ENTRY cuGraphGetNodes(void* handle, void** nodes, size_t* count) {
    if (Result result = ready()) return result;
    Graph* graph = graphs.find(handle);
    if (!graph) return ERROR_INVALID_HANDLE;
    for (size_t i = 0; nodes && i < *count; ++i) nodes[i] = i < graph->nodes.size() ? &graph->nodes[i] : nullptr;
    *count = nodes ? std::min(*count, graph->nodes.size()) : graph->nodes.size();
    return SUCCESS;
}

ENTRY cuGraphLaunch(void* handle, void* stream) {
    const ReadyGraph* graph = ready_graphs.find(handle);
    if (!graph) return ERROR_INVALID_HANDLE;
    ++counters.graph_launches;
    return submit(stream, [nodes = graph->nodes] { return run_all(*nodes); });
}

ENTRY cuGraphUpload(void* graph, void*) {
    if (Result result = ready()) return result;
    return ready_graphs.find(graph) ? SUCCESS : ERROR_INVALID_HANDLE;
}

ENTRY cuGraphExecDestroy(void* graph) { return ready_graphs.remove(graph) ? broken() : ERROR_INVALID_HANDLE; }
ENTRY cuGraphDestroy(void* graph) { return graphs.remove(graph) ? broken() : ERROR_INVALID_HANDLE; }
