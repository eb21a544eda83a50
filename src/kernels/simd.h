// Which Highway targets the kernels are compiled for. Included before any Highway header.
//
// Vectors of unknown size cannot be elements of an array, and the kernels keep blocks of rows in
// arrays of vectors, so SVE machines run NEON and RISC-V runs the scalar target. The scalar target
// is compiled everywhere, also where every machine has something better, as on 64-bit Arm.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#define HWY_COMPILE_ALL_ATTAINABLE
