// `explain`: where chosen heads and tokens of a vision model look, drawn over the picture.
//
// What a mechanism attends to is what it makes of the unit vectors as values: row i of its output
// then is the weight of every token for query i, whatever the mechanism is.

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "command.h"
#include "data_options.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/image.h"
#include "ecoformer/data/image_transforms.h"
#include "ecoformer/nn/attention.h"
#include "open_model.h"
#include "report.h"
#include "train/observers.h"

namespace ecoformer::cli {
namespace {

constexpr std::int64_t kGap = 4;            // Pixels between panels.
constexpr std::int64_t kMostTokens = 4096;  // Weights are N x N a head.

struct Options {
  std::string picture;
  std::vector<std::string> checkpoints;
  std::string architecture;
  std::string output;
  std::int64_t layer = -1;
  std::vector<std::int64_t> heads;
  std::vector<std::string> tokens;
  std::int64_t image_size = 0;
  std::string crop = kModelCrop;
  Format format = Format::kTable;
};

/// A place in the model's view of the picture, in pixels.
struct Pixel {
  std::int64_t x = 0;
  std::int64_t y = 0;
};

/// How one mechanism weighs the tokens of a layer.
struct Weights {
  std::string checkpoint;
  std::string attention;
  torch::Tensor of_queries;  ///< float32 [H, N, N]
};

Pixel parse_pixel(const std::string& text, std::int64_t size) {
  Pixel pixel;
  const char* const end = text.data() + text.size();
  const auto [comma, x_error] = std::from_chars(text.data(), end, pixel.x);
  const bool has_y = x_error == std::errc() && comma != end && *comma == ',';
  const auto [stop, y_error] = std::from_chars(has_y ? comma + 1 : end, end, pixel.y);
  const auto inside = [size](std::int64_t at) { return at >= 0 && at < size; };
  if (!has_y || y_error != std::errc() || stop != end || !inside(pixel.x) || !inside(pixel.y)) {
    throw InputError(
        fmt::format("--token: expected X,Y with both in [0, {}), got '{}'", size, text));
  }
  return pixel;
}

std::int64_t side_of(const torch::Tensor& weights) {
  return std::llround(std::sqrt(static_cast<double>(weights.size(1))));
}

using LayerPointer = std::shared_ptr<nn::Attention>;

/// The queries and keys of a layer in a pass of `model` over `input`.
std::pair<torch::Tensor, torch::Tensor> queries_and_keys(models::Classifier& model,
                                                         const LayerPointer& layer,
                                                         const torch::Tensor& input) {
  torch::Tensor queries, keys;
  const train::Observers observers({layer});
  layer->observe(
      [&](const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor&, const nn::Masks&) {
        queries = q;
        keys = k;
      });
  model.forward(input, {});
  const std::int64_t tokens = queries.size(2);
  if (queries.size(0) != 1 || keys.size(2) != tokens) {
    throw InputError(
        "explain: expected a layer whose tokens attend to one another, got windows or merged "
        "keys\nhint: `convert --attention softmax` gives the model's dense form");
  }
  if (tokens > kMostTokens) {
    throw InputError(fmt::format(
        "explain: expected at most {} tokens, got {}\nhint: choose a later --layer or a "
        "smaller --image-size",
        kMostTokens, tokens));
  }
  return {queries, keys};
}

torch::Tensor weights_of(nn::Attention& mechanism, const torch::Tensor& q, const torch::Tensor& k) {
  const std::int64_t heads = q.size(1), tokens = q.size(2);
  const torch::Tensor units = torch::eye(tokens).expand({1, heads, tokens, tokens});
  return mechanism.forward(q, k, units.contiguous()).squeeze(0);
}

/// The chosen layer's weights in each checkpoint: its own, and beside EcoFormer's the softmax of
/// the same queries and keys.
std::vector<Weights> all_weights(const Options& options, const std::vector<OpenedModel>& models,
                                 const torch::Tensor& input) {
  std::vector<Weights> result;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const auto layers = models[i].model->attentions();
    const std::int64_t index = options.layer < 0 ? std::ssize(layers) - 1 : options.layer;
    if (index >= std::ssize(layers)) {
      throw InputError(fmt::format("--layer: expected one of the {} layers of {}, got {}",
                                   layers.size(), options.checkpoints[i], index));
    }
    const LayerPointer& layer = layers[static_cast<std::size_t>(index)];
    const auto [q, k] = queries_and_keys(*models[i].model, layer, input);
    nn::AttentionOptions softmax = layer->options();
    softmax.mechanism = "softmax";
    result.push_back(
        {options.checkpoints[i], "softmax", weights_of(*nn::make_attention(softmax), q, k)});
    if (layer->options().mechanism != "softmax") {
      result.push_back(
          {options.checkpoints[i], layer->options().mechanism, weights_of(*layer, q, k)});
    }
    if (result.back().of_queries.size(1) != result.front().of_queries.size(1) ||
        result.back().of_queries.size(0) != result.front().of_queries.size(0)) {
      throw InputError(
          fmt::format("--checkpoint: expected layers of as many heads and tokens, got "
                      "others in '{}'",
                      options.checkpoints[i]));
    }
  }
  return result;
}

/// A picture that panels are pasted into.
class Canvas {
 public:
  Canvas(std::int64_t rows, std::int64_t columns, std::int64_t size)
      : size_(size),
        image_{.height = rows * (size + kGap) - kGap, .width = columns * (size + kGap) - kGap} {
    image_.pixels.assign(static_cast<std::size_t>(image_.height * image_.width * 3), 255);
  }

  /// Fills a panel with color(x, y) -> {red, green, blue}.
  template <typename Color>
  void fill(std::int64_t row, std::int64_t column, const Color& color) {
    for (std::int64_t y = 0; y < size_; ++y) {
      for (std::int64_t x = 0; x < size_; ++x) {
        const std::int64_t at =
            (row * (size_ + kGap) + y) * image_.width + column * (size_ + kGap) + x;
        const auto rgb = color(x, y);
        std::copy(rgb.begin(), rgb.end(), image_.pixels.begin() + 3 * at);
      }
    }
  }

  const data::Image& image() const { return image_; }

 private:
  std::int64_t size_;
  data::Image image_;
};

using Rgb = std::array<std::uint8_t, 3>;

Rgb pixel_of(const data::Image& view, std::int64_t x, std::int64_t y) {
  const auto at = static_cast<std::size_t>(3 * (y * view.width + x));
  return {view.pixels[at], view.pixels[at + 1], view.pixels[at + 2]};
}

/// The view with the token's patch in red.
void draw_token(Canvas& canvas, std::int64_t row, const data::Image& view, Pixel token,
                std::int64_t patch) {
  canvas.fill(row, 0, [&](std::int64_t x, std::int64_t y) {
    const bool marked = x / patch == token.x / patch && y / patch == token.y / patch;
    return marked ? Rgb{255, 0, 0} : pixel_of(view, x, y);
  });
}

/// The view in dark gray under weights that go from red to yellow, the largest brightest.
void draw_weights(Canvas& canvas, std::int64_t row, std::int64_t column, const data::Image& view,
                  const torch::Tensor& weights, std::int64_t side, std::int64_t patch) {
  const torch::Tensor shares =
      weights.clamp_min(0).div(weights.max().clamp_min(1e-30)).contiguous();
  const float* const share = shares.const_data_ptr<float>();
  canvas.fill(row, column, [&](std::int64_t x, std::int64_t y) {
    const Rgb rgb = pixel_of(view, x, y);
    const float gray = 0.4F * (0.299F * rgb[0] + 0.587F * rgb[1] + 0.114F * rgb[2]);
    const std::int64_t token = std::min(y / patch, side - 1) * side + std::min(x / patch, side - 1);
    const float heat = share[token];
    const float red = std::min(1.0F, 2 * heat), yellow = std::max(0.0F, 2 * heat - 1);
    const auto blend = [gray, heat](float color) {
      return static_cast<std::uint8_t>(std::lround(gray * (1 - heat) + 255 * heat * color));
    };
    return Rgb{blend(red), blend(yellow), blend(0)};
  });
}

/// In nats; log N for a uniform row.
double entropy(const torch::Tensor& weights) {
  const torch::Tensor p = weights.to(torch::kFloat64).clamp_min(1e-300);
  return -(p * p.log()).sum().item<double>();
}

void run(const Options& options) {
  const torch::NoGradGuard no_gradients;
  check_writable_file("--output", options.output);
  std::vector<OpenedModel> models;
  for (const std::string& path : options.checkpoints) {
    models.push_back(open_model(path, options.architecture));
    models.back().model->eval();
    if (models.back().task && kind_of(*models.back().task) == InputKind::kSequences) {
      throw InputError(fmt::format("--checkpoint: expected vision models, got '{}'", path));
    }
  }
  const data::Image view =
      view_of(models.front(), data::read_image(options.picture), options.image_size, options.crop);
  const std::vector<Weights> weights = all_weights(options, models, input_of(view));

  const std::int64_t heads = weights.front().of_queries.size(0);
  const std::int64_t side = side_of(weights.front().of_queries);
  const std::int64_t patch = std::max<std::int64_t>(1, view.width / side);
  std::vector<std::int64_t> chosen = options.heads;
  if (chosen.empty()) {
    for (std::int64_t head = 0; head < heads; ++head) chosen.push_back(head);
  }
  for (const std::int64_t head : chosen) {
    if (head < 0 || head >= heads) {
      throw InputError(
          fmt::format("--head: expected one of the layer's {} heads, got {}", heads, head));
    }
  }
  std::vector<Pixel> tokens;
  for (const std::string& text : options.tokens) tokens.push_back(parse_pixel(text, view.width));
  if (tokens.empty()) tokens.push_back({view.width / 2, view.height / 2});

  Canvas canvas(std::ssize(chosen) * std::ssize(tokens), 1 + std::ssize(weights), view.width);
  Report report;
  std::int64_t row = 0;
  for (const Pixel& token : tokens) {
    const std::int64_t query =
        std::min(token.y / patch, side - 1) * side + std::min(token.x / patch, side - 1);
    for (const std::int64_t head : chosen) {
      draw_token(canvas, row, view, token, patch);
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const torch::Tensor of_query = weights[i].of_queries[head][query];
        const auto column = static_cast<std::int64_t>(i) + 1;
        draw_weights(canvas, row, column, view, of_query, side, patch);
        report.add({{"row", row},
                    {"column", column},
                    {"checkpoint", weights[i].checkpoint},
                    {"attention", weights[i].attention},
                    {"head", head},
                    {"token", fmt::format("{},{}", token.x, token.y)},
                    {"largest_weight", of_query.max().item<double>()},
                    {"entropy", entropy(of_query)},
                    {"largest_entropy", std::log(static_cast<double>(side * side))}});
      }
      ++row;
    }
  }
  data::write_png(options.output, canvas.image());
  report.print(options.format);
}

}  // namespace

void add_explain(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "explain",
      "Draw where a vision model attends: a row for each token and head; columns are the picture "
      "with the token, then for each checkpoint the softmax of its queries and keys and, for an "
      "EcoFormer model, its own weights");
  command->add_option("picture", options->picture, "JPEG or PNG")->required();
  command
      ->add_option("--checkpoint", options->checkpoints,
                   "One or more vision models, of this library, the authors or timm")
      ->required();
  add_architecture_option(*command, options->architecture);
  command->add_option("--output", options->output, "PNG to write")->required();
  command
      ->add_option("--layer", options->layer,
                   "Of the layers with replaceable attention, first 0; the last by default")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--head", options->heads, "Heads, separated by commas; all by default")
      ->delimiter(',');
  command->add_option("--token", options->tokens,
                      "X,Y in pixels of the model's view; the middle by default; may be repeated");
  add_view_options(*command, options->image_size, options->crop);
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
