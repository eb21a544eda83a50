// `bench model`: whole vision models with each kind of attention, side by side.
#pragma once

#include <CLI/CLI.hpp>

namespace ecoformer::cli {

void add_bench_model(CLI::App& bench);

}  // namespace ecoformer::cli
