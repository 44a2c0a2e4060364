// Streams: where work is done at once, or recorded while a stream captures.
#pragma once

#include <functional>

#include "driver.hpp"

namespace emulated {

using Work = std::function<Result()>;

// Does the work, or records it.
Result submit(void* stream, Work work);

// SUCCESS if work that is done for its caller, on the legacy stream, can be done now.
Result ready_for_synchronous_work();

// ERROR_STREAM_CAPTURE_UNSUPPORTED, and the capture is spoilt, if this thread may not make calls that a capture cannot
// hold.
Result allowed_during_capture();

// The same for a call that cannot be made on a stream that captures.
Result allowed_on(void* stream);

// For any capture on this device: what waits for all of it.
Result allowed_for_whole_device();

bool is_capturing(void* stream);

// Ends all captures without a graph.
void forget_captures();

}  // namespace emulated
