// SpillLosses: what opening a spill database had to leave out.
//
// Threads  a value.
#pragma once

#include <cstdint>

namespace passband {

struct SpillLosses {
  uint64_t files = 0;    // damaged or missing
  uint64_t blocks = 0;   // that lay in them
  uint64_t records = 0;  // that neither copy has, at least
  uint64_t mended_copies = 0;

  bool any() const { return files + blocks + records + mended_copies != 0; }
};

}  // namespace passband
