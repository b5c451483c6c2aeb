// Targets: which instruction sets the kernels were built for and this machine
// has. For tests and for the benchmark's report.
//
// Threads  UseCpuTarget before other threads start; CpuTargets is safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace passband::kernels {

struct CpuTarget {
  int64_t bit = 0;  // Highway's
  std::string name;
};

// Best first.
std::vector<CpuTarget> CpuTargets();

// Makes the kernels use only this target; 0 returns to the best one. Not while
// kernels run.
void UseCpuTarget(int64_t bit);

}  // namespace passband::kernels
