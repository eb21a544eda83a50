// Asks the processor (Intel's manual, CPUID leaf 7) and the kernel (arch_prctl) for tiles.

#include "kernels/amx.h"

#if ECO_AMX

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ecoformer::kernels {
namespace {

bool processor_has_amx() {
  constexpr unsigned kAmxBfloat16 = 1U << 22, kAmxTile = 1U << 24;  // EDX of leaf 7.0
  constexpr unsigned kAvx512Bfloat16 = 1U << 5;                     // EAX of leaf 7.1
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kAmxBfloat16) == 0 || (edx & kAmxTile) == 0 || eax < 1) return false;
  __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx);
  return (eax & kAvx512Bfloat16) != 0;
}

/// Threads have room for the tiles' 8 KB only after their process asked for it.
bool system_allows_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool has_amx() {
  static const bool has = processor_has_amx() && system_allows_tiles();
  return has;
}

}  // namespace ecoformer::kernels

#else

bool ecoformer::kernels::has_amx() {
  return false;
}

#endif
