// The one exception type of the project, thrown for every fault a caller can cause.
#pragma once

#include <stdexcept>
#include <string>

namespace ecoformer {

/// A failure the caller can act on: `operation: expected ..., got ...`, and where there is a next
/// step a second line `hint: ...`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The input itself is wrong: a flag, a configuration, a file's content. The command line answers
/// with exit code 2, and with 1 for any other Error.
class InputError : public Error {
 public:
  using Error::Error;
};

}  // namespace ecoformer
