// The number of batches of an epoch.
#include "data/plan.h"

#include <fmt/format.h>

#include "ecoformer/base/error.h"

namespace ecoformer::data {

std::int64_t count_batches(std::int64_t examples, std::int64_t batch_size, bool drop_last,
                           std::string_view loader, std::string_view dataset) {
  if (batch_size < 1) {
    throw InputError(fmt::format("{}: expected batch_size >= 1, got {}", loader, batch_size));
  }
  const std::int64_t full = examples / batch_size;
  const std::int64_t batches = drop_last || examples % batch_size == 0 ? full : full + 1;
  if (batches == 0) {
    throw InputError(fmt::format("{}: expected at least {} examples in data set '{}', got {}",
                                 loader, drop_last ? batch_size : 1, dataset, examples));
  }
  return batches;
}

}  // namespace ecoformer::data
