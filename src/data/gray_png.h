// 8 bit gray PNG images in memory and in files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "data/grid.h"

namespace ecoformer::data {

/// A larger side is refused, so that a file of a few bytes cannot ask for all memory.
inline constexpr int kLongestGraySide = 1024;

/// Decodes a PNG of 8 bit gray pixels without transparency. Throws InputError for anything else.
Grid<std::uint8_t> decode_gray_png(std::string_view bytes);

/// Writes a PNG of 8 bit gray pixels atomically. Throws Error where that fails.
void write_gray_png(const std::filesystem::path& path, int width, int height,
                    const std::vector<std::uint8_t>& pixels);

}  // namespace ecoformer::data
