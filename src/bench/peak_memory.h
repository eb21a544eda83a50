// How much tensor memory a task needs beyond what is there before it runs.
#pragma once

#include <cstdint>
#include <functional>

namespace ecoformer::bench {

/// Largest sum of bytes that LibTorch's CPU allocator has handed out to `task` at one time, results
/// included. Counts what this thread allocates, so it is exact with one thread only.
std::int64_t peak_tensor_bytes(const std::function<void()>& task);

}  // namespace ecoformer::bench
