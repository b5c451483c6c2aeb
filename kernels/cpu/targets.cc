#include "kernels/cpu/targets.h"

#include <hwy/highway.h>

namespace passband::kernels {

std::vector<CpuTarget> CpuTargets() {
  std::vector<CpuTarget> targets;
  for (const int64_t bit : hwy::SupportedAndGeneratedTargets()) {
    targets.push_back({bit, hwy::TargetName(bit)});
  }
  return targets;
}

void UseCpuTarget(int64_t bit) {
  hwy::SetSupportedTargetsForTest(bit);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace passband::kernels
