// The fixture pictures, and what Pillow makes of them (tests/fixtures/make_images.py).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ecoformer/data/image.h"

namespace ecoformer::data {

std::filesystem::path fixture_file(const std::string& name);

/// The names of the pictures that Pillow made, and the one under a name.
std::vector<std::string> pillow_names();
Image pillow(const std::string& name);

/// The largest difference of two samples; fails where the sizes differ.
int largest_difference(const Image& a, const Image& b);

}  // namespace ecoformer::data
