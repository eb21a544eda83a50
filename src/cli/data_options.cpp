// Tasks by name: which reader and which tokeniser.

#include "data_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "ecoformer/base/error.h"
#include "ecoformer/data/listops.h"
#include "ecoformer/data/pathfinder.h"
#include "ecoformer/data/text.h"
#include "progress.h"

namespace ecoformer::cli {
namespace {

constexpr const char* kListOps = "listops";
constexpr const char* kBytes = "bytes";
constexpr const char* kPixels = "pixels";
constexpr const char* kMaskedPixels = "masked_pixels";

Task load_listops(const std::string& folder, const DataOptions& options) {
  data::ListOpsReadOptions read;
  if (options.max_length > 0) read.max_length = options.max_length;
  return {.info = {.class_names = {}, .tokeniser = kListOps, .max_length = read.max_length},
          .splits = data::read_listops(folder, read)};
}

Task load_text(const std::string& folder, const DataOptions& options) {
  data::TextFolderOptions read;
  if (options.max_length > 0) read.max_length = options.max_length;
  return {.info = {.class_names = {}, .tokeniser = kBytes, .max_length = read.max_length},
          .splits = data::read_text_folder(folder, read)};
}

Task load_pathfinder(const std::string& folder, const DataOptions& options) {
  const data::GrayImageSplits images = data::read_pathfinder(folder, {});
  const std::int64_t pixels = images.train.pixels[0].numel();
  if (options.max_length > 0 && pixels > options.max_length) {
    throw InputError(fmt::format("--data: expected images of at most {} pixels in {}, got {}",
                                 options.max_length, folder, pixels));
  }
  if (images.skipped > 0) {
    log_line(fmt::format("note: left out {} empty image files of {}", images.skipped, folder));
  }
  const auto coding =
      options.mask_black ? data::PixelCoding::kMaskBlack : data::PixelCoding::kEvery;
  return {.info = {.class_names = {},
                   .tokeniser = options.mask_black ? kMaskedPixels : kPixels,
                   .max_length = pixels},
          .splits = data::as_sequences(images, coding)};
}

}  // namespace

void add_data_option(CLI::App& command, DataOptions& options) {
  command
      .add_option("--data", options.source,
                  "listops:FOLDER with basic_{train,val,test}.tsv, text:FOLDER of "
                  "<split>/<class>/<file> or <class>/<file>, or pathfinder:FOLDER with imgs and "
                  "metadata")
      ->type_name("TASK:FOLDER")
      ->group("Data");
}

void add_coding_options(CLI::App& command, DataOptions& options) {
  command
      .add_option(
          "--max-length", options.max_length,
          "Longest sequence: longer ListOps rows are refused, longer texts cut; 0 for the task's "
          "own, 2000 and 4000")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24))
      ->group("Data");
  command
      .add_flag("--mask-black", options.mask_black,
                "Mask black pixels like padding, as Long Range Arena does")
      ->group("Data");
}

Task load_task(const DataOptions& options) {
  const auto colon = options.source.find(':');
  const std::string task = options.source.substr(0, colon);
  const std::string folder = colon == std::string::npos ? "" : options.source.substr(colon + 1);
  using Load = Task (*)(const std::string&, const DataOptions&);
  const std::map<std::string, Load> loaders{
      {"listops", load_listops}, {"text", load_text}, {"pathfinder", load_pathfinder}};
  const auto load = loaders.find(task);
  if (load == loaders.end() || folder.empty()) {
    throw InputError(
        fmt::format("--data: expected listops:FOLDER, text:FOLDER or pathfinder:FOLDER, got '{}'",
                    options.source));
  }
  if (options.mask_black && task != "pathfinder") {
    throw InputError(
        fmt::format("--mask-black: expected --data pathfinder:FOLDER, got '{}'", options.source));
  }
  Task result = load->second(folder, options);
  result.info.class_names = result.splits.train.class_names;
  return result;
}

Task load_task_for(const train::TaskInfo& model, DataOptions options) {
  options.max_length = model.max_length;
  options.mask_black = model.tokeniser == kMaskedPixels;
  Task task = load_task(options);
  if (task.info.tokeniser != model.tokeniser) {
    throw InputError(fmt::format("--data: expected data for the model's tokeniser '{}', got '{}'",
                                 model.tokeniser, options.source));
  }
  if (task.info.class_names != model.class_names) {
    throw InputError(fmt::format("--data: expected the model's classes ({}), got ({})",
                                 fmt::join(model.class_names, ", "),
                                 fmt::join(task.info.class_names, ", ")));
  }
  return task;
}

std::vector<std::int32_t> tokenise(const train::TaskInfo& model, const std::string& text) {
  std::vector<std::int32_t> tokens;
  if (model.tokeniser == kListOps) {
    // A file or a line may end in a new line, which is no part of the expression.
    tokens = data::parse_listops(text.substr(0, text.find_last_not_of("\r\n") + 1));
  } else if (model.tokeniser == kBytes) {
    tokens = data::encode_bytes(text, model.max_length);
  } else if (model.tokeniser == kPixels) {
    tokens = data::encode_pixels(text, data::PixelCoding::kEvery);
  } else if (model.tokeniser == kMaskedPixels) {
    tokens = data::encode_pixels(text, data::PixelCoding::kMaskBlack);
  } else {
    throw InputError(
        fmt::format("tokenise: expected a tokeniser listops, bytes, pixels or masked_pixels, got "
                    "'{}'",
                    model.tokeniser));
  }
  if (tokens.empty()) throw InputError("tokenise: expected at least one token, got an empty text");
  if (std::ssize(tokens) > model.max_length) {
    throw InputError(fmt::format("tokenise: expected at most {} tokens, got {}", model.max_length,
                                 tokens.size()));
  }
  return tokens;
}

}  // namespace ecoformer::cli
