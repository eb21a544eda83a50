// A small two-dimensional array of values, rows first.
#pragma once

#include <cstddef>
#include <vector>

namespace ecoformer::data {

template <typename T>
struct Grid {
  Grid() = default;
  Grid(int rows_, int columns_)
      : rows(rows_),
        columns(columns_),
        values(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(columns_)) {}

  bool contains(int y, int x) const { return y >= 0 && y < rows && x >= 0 && x < columns; }
  T& at(int y, int x) { return values[index(y, x)]; }
  const T& at(int y, int x) const { return values[index(y, x)]; }

  int rows = 0;
  int columns = 0;
  std::vector<T> values;

 private:
  std::size_t index(int y, int x) const {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(columns) +
           static_cast<std::size_t>(x);
  }
};

}  // namespace ecoformer::data
