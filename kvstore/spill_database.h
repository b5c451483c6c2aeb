// SpillDatabase: one RocksDB database in one directory, which holds the tier below RAM
// and the catalog.
//
// Opening checks the directory, takes its lock, and gets on with what is readable:
// damaged files cost what lay in them, and losses() says what that was.
//
// Units      bytes.
// Threads    safe.
// Ownership  owns tier and catalog. Nothing is written when it is closed: Flush before.
// Errors     those of SpillDirectory, and
//            kInvalidArgument  options that contradict each other
//            kDataLoss         the database's table of contents is damaged; says what to do
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "base/units.h"
#include "kvstore/catalog.h"
#include "kvstore/spill_losses.h"
#include "kvstore/tier.h"

namespace rocksdb {
class Env;
}

namespace passband {

struct SpillHealth {
  Status device;  // OK, or why nothing is written at the moment
  uint64_t device_errors = 0;
  uint64_t pending_bytes = 0;   // put, and not on the device yet
  uint64_t memtable_bytes = 0;  // RAM, as RocksDB counts it
  uint64_t index_bytes = 0;     // RAM, for what lies where in the files
  uint64_t file_bytes = 0;      // on the device, not yet deleted files included
  double stall_seconds = 0;     // Put waited for memory
  uint64_t damaged_planes = 0;  // found when reading
  uint64_t lost_blocks = 0;     // wanted, and not there
};

class SpillDatabase {
 public:
  struct Options {
    std::string directory;
    uint64_t capacity_bytes = 64 * kGiB;   // of block files on the device
    uint64_t generation_bytes = 4 * kGiB;  // a quarter of the capacity at most
    std::chrono::minutes generation_age{60};
    // RAM for what is not written yet: memtable_bytes * memtables at most.
    uint64_t memtable_bytes = 128 * kMiB;
    uint32_t memtables = 4;
    uint64_t write_bytes_per_second = 0;  // 0: as fast as the device
    bool direct_io = true;                // where the directory's file system has it
    std::chrono::seconds stall_timeout{30};
    std::chrono::milliseconds resume_interval{1000};
    rocksdb::Env* env = nullptr;   // null: the real one
    const Clock* clock = nullptr;  // null: the real one
  };

  static StatusOr<std::unique_ptr<SpillDatabase>> Open(Options options);
  ~SpillDatabase();
  SpillDatabase(const SpillDatabase&) = delete;
  SpillDatabase& operator=(const SpillDatabase&) = delete;

  Tier& tier();
  Catalog& catalog();

  // What could not be read when it was opened.
  const SpillLosses& losses() const;
  SpillHealth Health() const;
  // 0: as fast as the device.
  void SetWriteRate(uint64_t bytes_per_second);

 private:
  struct Impl;
  explicit SpillDatabase(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
