// One draw of the ListOps generator, apart from the loop around it so that tests see rejections
// too.
#pragma once

#include <cstdint>
#include <vector>

#include "data/random.h"
#include "ecoformer/data/listops.h"

namespace ecoformer::data {

/// Draws one expression into `tokens` and says whether its length is wanted. An expression that
/// reaches max_length is given up there, since it can only grow; `tokens` then holds a part of it.
bool draw_listops_tree(const ListOpsOptions& options, Engine& engine,
                       std::vector<std::int32_t>& tokens);

}  // namespace ecoformer::data
