// `bench model`: latency and memory of a vision model with its own attention, softmax and
// EcoFormer's, timed in turn on random images.

#include "bench_model.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/peak_memory.h"
#include "bench/timing.h"
#include "command.h"
#include "ecoformer/kernels/targets.h"
#include "ecoformer/models/architecture.h"
#include "ecoformer/models/pyramid.h"
#include "hash_precision.h"
#include "model_options.h"
#include "open_model.h"
#include "progress.h"
#include "report.h"
#include "train/learn_hashes.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::string model = "pvt_v2_b0";
  ModelOptions eco;
  std::vector<std::string> attention{models::kOriginalAttention, "softmax", "eco"};
  std::vector<std::int64_t> image_sizes{224};
  std::vector<std::int64_t> batches{1};
  std::string dtype = "float32";
  kernels::Precision hash_precision = kernels::Precision::kFloat32;
  double seconds = 10;
  Format format = Format::kTable;
};

torch::Tensor random_images(std::int64_t batch, std::int64_t size) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(/*seed=*/0);
  return torch::randn({batch, 3, size, size}, generator);
}

std::shared_ptr<models::Classifier> build(const Options& options, const std::string& attention) {
  ModelOptions eco = options.eco;
  eco.model = options.model;
  eco.config.attention.mechanism = attention;
  const models::Architecture architecture = architecture_of(eco);
  auto model = models::make_classifier(architecture.type, architecture.config);
  model->eval();
  // From one image: which functions they are does not matter to the time, but without any there
  // are no codes.
  train::learn_hashes(*model, {.inputs = random_images(1, 224)},
                      {.iterations = 0, .query_sample = 256}, /*only_unlearned=*/false);
  set_dtype(*model, options.dtype);
  set_hash_precision(*model, options.hash_precision);
  return model;
}

void run(const Options& options) {
  const torch::InferenceMode inference;
  std::vector<std::shared_ptr<models::Classifier>> contenders;
  for (const std::string& attention : options.attention) {
    contenders.push_back(build(options, attention));
  }
  Report report;
  for (const std::int64_t size : options.image_sizes) {
    for (const std::int64_t batch : options.batches) {
      log_line(fmt::format("measuring {} images of {} x {}", batch, size, size));
      const torch::Tensor images = random_images(batch, size);
      std::vector<std::function<void()>> tasks;
      std::vector<double> extra_mb;
      for (const auto& model : contenders) {
        tasks.emplace_back([&images, model] { model->forward(images, {}); });
        extra_mb.push_back(static_cast<double>(bench::peak_tensor_bytes(tasks.back())) / 1e6);
      }
      const std::vector<bench::Timing> timings = bench::time_in_turn(tasks, options.seconds);
      for (std::size_t i = 0; i < contenders.size(); ++i) {
        const double seconds = timings[i].median;
        report.add({{"model", options.model},
                    {"attention", options.attention[i]},
                    {"image_size", size},
                    {"batch", batch},
                    {"threads", at::get_num_threads()},
                    {"isa", kernels::active_target()},
                    {"dtype", options.dtype},
                    {"hash_precision", to_string(options.hash_precision)},
                    {"latency_ms", 1e3 * seconds},
                    {"spread", timings[i].spread},
                    {"images_per_s", static_cast<double>(batch) / seconds},
                    {"extra_memory_mb", extra_mb[i]},
                    {"speedup", timings[0].median / seconds}});
      }
    }
  }
  report.print(options.format);
}

}  // namespace

void add_bench_model(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "model", "A vision model with each kind of attention; speedup is over the first");
  command->add_option("--model", options->model, "Architecture")
      ->check(one_of(models::architecture_names()));
  command
      ->add_option("--attention", options->attention,
                   "Attention mechanisms of the first stages, separated by commas")
      ->delimiter(',')
      ->check(one_of({models::kOriginalAttention, "softmax", "eco"}));
  command
      ->add_option("--image-size", options->image_sizes,
                   "Sides of square images in pixels, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 14));
  command->add_option("--batch", options->batches, "Images at a time, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 12));
  command->add_option("--seconds", options->seconds, "Time for a size; never fewer than 3 rounds")
      ->check(CLI::Range(0.0, 1e6));
  add_dtype_option(*command, options->dtype);
  add_hash_precision_option(*command, options->hash_precision);
  add_eco_options(*command, options->eco);
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
