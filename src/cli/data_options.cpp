// Tasks by name: which reader and which tokeniser.

#include "data_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ecoformer/base/error.h"
#include "ecoformer/data/listops.h"
#include "ecoformer/data/text.h"

namespace ecoformer::cli {
namespace {

constexpr const char* kListOps = "listops";
constexpr const char* kBytes = "bytes";

}  // namespace

void add_data_option(CLI::App& command, DataOptions& options) {
  command
      .add_option("--data", options.source,
                  "listops:FOLDER with basic_{train,val,test}.tsv, or text:FOLDER of "
                  "<split>/<class>/<file> or <class>/<file>")
      ->type_name("TASK:FOLDER")
      ->group("Data");
}

void add_length_option(CLI::App& command, DataOptions& options) {
  command
      .add_option(
          "--max-length", options.max_length,
          "Longest sequence: longer ListOps rows are refused, longer texts cut; 0 for the task's "
          "own, 2000 and 4000")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24))
      ->group("Data");
}

Task load_task(const DataOptions& options) {
  const auto colon = options.source.find(':');
  const std::string task = options.source.substr(0, colon);
  const std::string folder = colon == std::string::npos ? "" : options.source.substr(colon + 1);
  if ((task != "listops" && task != "text") || folder.empty()) {
    throw InputError(
        fmt::format("--data: expected listops:FOLDER or text:FOLDER, got '{}'", options.source));
  }
  Task result;
  if (task == "listops") {
    data::ListOpsReadOptions read;
    if (options.max_length > 0) read.max_length = options.max_length;
    result.splits = data::read_listops(folder, read);
    result.info.tokeniser = kListOps;
    result.info.max_length = read.max_length;
  } else {
    data::TextFolderOptions read;
    if (options.max_length > 0) read.max_length = options.max_length;
    result.splits = data::read_text_folder(folder, read);
    result.info.tokeniser = kBytes;
    result.info.max_length = read.max_length;
  }
  result.info.class_names = result.splits.train.class_names;
  return result;
}

Task load_task_for(const train::TaskInfo& model, DataOptions options) {
  options.max_length = model.max_length;
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
  } else {
    throw InputError(
        fmt::format("tokenise: expected a tokeniser listops or bytes, got '{}'", model.tokeniser));
  }
  if (tokens.empty()) throw InputError("tokenise: expected at least one token, got an empty text");
  if (std::ssize(tokens) > model.max_length) {
    throw InputError(fmt::format("tokenise: expected at most {} tokens, got {}", model.max_length,
                                 tokens.size()));
  }
  return tokens;
}

}  // namespace ecoformer::cli
