// RocksDbTier: blocks in RocksDB, beneath RAM. A plane is a value of its own; a
// generation is a column family, which goes as a whole and without rewriting anything.
//
// What was put is in memtables until RocksDB's threads have written it: memtable_bytes
// times `memtables` at most, then Put waits.
//
// When the device fails or is full, Put and Flush say so and Get goes on; a thread tries
// again until the device is back.
//
// Units      bytes.
// Threads    safe; one thread of its own. Put is one at a time; Get is not.
// Ownership  shares the families; the database must outlive it.
// Errors     as tier.h; Put and Flush with a retry-after while the device fails.
#pragma once

#include <rocksdb/sst_file_manager.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "kvstore/generation_table.h"
#include "kvstore/rocksdb_support.h"
#include "kvstore/spill_format.h"
#include "kvstore/tier.h"
#include "kvstore/write_behind.h"

namespace passband {

class RocksDbTier final : public Tier {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;
    uint64_t generation_bytes = 0;
    Duration generation_age{};
    uint64_t memtable_bytes = 0;
    uint32_t memtables = 0;
    Duration stall_timeout{};    // Put and Flush wait for the device this long
    Duration resume_interval{};  // between tries to write again after an error
    RocksDbSetup setup;
  };
  struct Parts {
    rocksdb::DB& db;
    WriteBehind& write_behind;
    rocksdb::SstFileManager& files;
    // Must have the number on the device before it returns: no later run begins a
    // generation of this number or a lower one.
    std::function<Status(uint64_t generation)> reserve;
    // Once RocksDB takes writes again: does what else must be done. OK: the device is back.
    std::function<Status()> mend;
    const Clock& clock;
  };
  struct Counters {
    uint64_t damaged_planes = 0;  // found by Get
    uint64_t lost_blocks = 0;     // wanted, but not there
    double stall_seconds = 0;     // Put waited for memory
  };

  // `reserved`: the greatest generation that `reserve` was called with, ever.
  RocksDbTier(const Options& options, Parts parts, const std::vector<ColumnFamily>& generations,
              uint64_t reserved);
  ~RocksDbTier() override;

  StatusOr<BlockAddress> Put(std::span<const std::byte> block, uint32_t planes) override;
  Status Flush() override;
  StatusOr<bool> Get(const BlockAddress& address, uint32_t planes, PlaneSet wanted,
                     std::span<std::byte> block) override;
  void Drop(const BlockAddress& address) override;
  StatusOr<uint64_t> DropOldest() override;
  void Claim(const BlockAddress& address) override;
  bool MayHold(const BlockAddress& address) const override;
  Status DropUnclaimed() override;
  TierStats Stats() const override;

  Counters counters() const;
  // Not yet on the device.
  uint64_t pending_bytes() const { return parts_.write_behind.pending_bytes(); }

 private:
  struct PlaneValues;

  Status DeviceError() const;
  uint64_t UsedBytes() const;
  Status MakeRoom(uint64_t charge) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  Status EnsureGeneration() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  Status CloseGeneration(const ColumnFamily& family) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  Status AwaitMemory(uint64_t charge);
  Status Write(const GenerationTable::Active& active, std::span<const std::byte> block,
               uint32_t planes);
  StatusOr<size_t> CheckValues(const BlockAddress& address, const PlaneValues& values,
                               const PlaneShape& shape);
  Status Forget(GenerationTable::Taken& taken);
  void ForgetDoomed();
  void TryResume();
  void Run(const std::stop_token& stop);

  const Options options_;
  const Parts parts_;
  GenerationTable generations_;
  Mutex write_mutex_;  // numbers are written in their order
  uint64_t reserved_ ABSL_GUARDED_BY(write_mutex_);
  Mutex forget_mutex_;
  std::atomic<uint64_t> damaged_planes_{0};
  std::atomic<uint64_t> lost_blocks_{0};
  std::atomic<int64_t> stall_ns_{0};

  Mutex work_mutex_;
  std::condition_variable_any work_;
  bool doomed_ ABSL_GUARDED_BY(work_mutex_) = false;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace passband
