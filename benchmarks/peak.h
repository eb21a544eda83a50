// What this machine can do at best, measured: the yardstick for kernels bound by arithmetic.
#pragma once

namespace ecoformer::benchmarks {

/// Float32 multiply-adds a nanosecond of one thread on the active instruction set, all operands in
/// registers or broadcast from the first-level cache, as in `encode`.
double multiply_adds_per_ns();

}  // namespace ecoformer::benchmarks
