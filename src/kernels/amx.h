// Intel's matrix tiles: whether the compiler knows them, and whether this process may use them.
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#define ECO_AMX 1
#else
#define ECO_AMX 0
#endif

namespace ecoformer::kernels {

/// Whether the processor multiplies bfloat16 in tiles and in vectors, and the system lets this
/// process use tiles, for which it is asked once.
bool has_amx();

}  // namespace ecoformer::kernels
