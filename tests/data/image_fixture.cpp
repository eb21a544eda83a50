// Reads what Pillow made of the fixture pictures.
#include "data/image_fixture.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdlib>

#include "ecoformer/io/safetensors.h"

namespace ecoformer::data {
namespace {

const io::TensorFile& results() {
  static const io::TensorFile file = io::read_safetensors(ECO_FIXTURES "/images.safetensors");
  return file;
}

}  // namespace

std::filesystem::path fixture_file(const std::string& name) {
  return std::filesystem::path(ECO_FIXTURES) / "images" / name;
}

std::vector<std::string> pillow_names() {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : results().tensors) names.push_back(name);
  return names;
}

Image pillow(const std::string& name) {
  const torch::Tensor tensor = io::take(results(), name, torch::kUInt8);
  const auto* const data = tensor.const_data_ptr<std::uint8_t>();
  return {.height = tensor.size(0),
          .width = tensor.size(1),
          .channels = tensor.size(2),
          .pixels = std::vector<std::uint8_t>(data, data + tensor.numel())};
}

int largest_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.channels, b.channels);
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  int largest = 0;
  for (std::size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) {
    largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  }
  return largest;
}

}  // namespace ecoformer::data
