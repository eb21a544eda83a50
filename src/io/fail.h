// The one shape of a reader's refusal.
#pragma once

#include <fmt/format.h>

#include <string>

#include "ecoformer/base/error.h"

namespace ecoformer::io {

/// Throws InputError: `read <file>: expected <expected>, got <got>`.
[[noreturn]] inline void fail(const std::string& file, const std::string& expected,
                              const std::string& got) {
  throw InputError(fmt::format("read {}: expected {}, got {}", file, expected, got));
}

}  // namespace ecoformer::io
