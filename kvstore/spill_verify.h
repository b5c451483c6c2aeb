// VerifySpill: reads everything in a spill directory that no server has open, and says
// what is damaged or missing. Changes nothing.
//
// A directory whose database was never created completely has nothing to lose, and is whole.
// When the database's table of contents cannot be read, it goes by the files that are
// there; then records that were still in the log are not seen.
//
// Units    bytes.
// Threads  one a directory; it holds the directory's lock meanwhile.
// Errors   those of SpillDirectory; kUnavailable when the device fails. Damage is no
//          error: the report has it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kvstore/catalog.h"
#include "kvstore/tier.h"

namespace passband {

struct SpillReport {
  Status contents;  // OK, or why the table of contents cannot be read
  uint64_t files = 0;
  uint64_t damaged_files = 0;  // cannot be opened, or not as long as they should be
  uint64_t missing_files = 0;
  uint64_t generations = 0;
  uint64_t blocks = 0;          // whole
  uint64_t block_bytes = 0;     // of these
  uint64_t damaged_blocks = 0;  // that lack planes, those of damaged and missing files too
  uint64_t damaged_planes = 0;
  uint64_t records = 0;         // whole in one copy at least
  uint64_t damaged_copies = 0;  // of records; the other copy stands in
  uint64_t lost_records = 0;    // whole in neither, at least
  uint64_t read_bytes = 0;
  std::vector<std::string> findings;  // the first of them, in words

  bool ok() const {
    return contents.ok() && damaged_files + missing_files + damaged_blocks + damaged_planes +
                                    damaged_copies + lost_records ==
                                0;
  }
  // Whether a block that something refers to is there and whole.
  bool Holds(const BlockAddress& address) const;

  std::map<uint64_t, std::vector<bool>> whole;  // by generation and number
};

struct SpillVerifyOptions {
  std::string directory;
  // Called now and then.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
  // Called with every record that is whole, for a check of what it refers to.
  std::function<void(RecordKind kind, std::string_view key, std::string_view value)> record;
};

StatusOr<SpillReport> VerifySpill(const SpillVerifyOptions& options);

}  // namespace passband
