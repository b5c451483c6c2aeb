// Percentile: the value below which a share of the measurements lie.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace passband {

// `share`: 0 to 1, so .5 gives the median. 0 when nothing was measured.
inline double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(static_cast<double>(values.size() - 1) * share)];
}

}  // namespace passband
