// How the sources of batches cut an epoch into them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ecoformer::data {

/// How many batches of `batch_size` that many examples make, the last one partial unless
/// `drop_last`. Throws InputError, which begins with `loader`, for a size below 1 and for no batch.
std::int64_t count_batches(std::int64_t examples, std::int64_t batch_size, bool drop_last,
                           std::string_view loader, std::string_view dataset);

/// Visits [begin, end) in chunks of `size` iterators, the last one partial.
template <typename Iterator, typename Visit>
void for_each_chunk(Iterator begin, Iterator end, std::int64_t size, const Visit& visit) {
  while (begin != end) {
    const Iterator next = begin + std::min<std::int64_t>(size, end - begin);
    visit(begin, next);
    begin = next;
  }
}

}  // namespace ecoformer::data
