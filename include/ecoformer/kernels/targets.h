// Which instruction sets this machine offers, and which of them the kernels use.
#pragma once

#include <string>
#include <vector>

namespace ecoformer::kernels {

/// Names of the instruction sets that were compiled in and that this machine runs, best first:
/// Highway's own names in lower case, for example avx3, avx2, sse4, ssse3, scalar.
std::vector<std::string> available_targets();

/// The instruction set the kernels run on now.
std::string active_target();

/// Makes every kernel run on `name`, or on the best one again for "auto". Returns false, changing
/// nothing, if this machine does not offer it. Not to be called while a kernel runs.
bool force_target(const std::string& name);

}  // namespace ecoformer::kernels
