// Sealer: makes sealed sequences survive a restart.
//
//     Seal -> the blocks that the tier does not have yet are written, and flushed
//          -> the sequence's record and those of its columns, in one batch
//     Forget -> the records go; then the blocks
//
// So what the catalog names is on the device. Requests that come together share the flush and
// the batch. A column is recorded once, however many sequences share it.
//
// Threads    one of its own, on which callbacks run. Requests are served in order.
// Ownership  what it is created with must outlive it. What was requested is served before it is
//            destroyed.
// Errors     kDataLoss           a block of the sequence is lost
//            kNotFound           it was closed meanwhile
//            kResourceExhausted  tier or catalog are full
//            kUnavailable        the device fails
//            After an error the sequence is sealed, but not durable: it may be sealed again.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/block_home.h"
#include "kvstore/catalog.h"
#include "kvstore/column_ledger.h"
#include "kvstore/model_registry.h"
#include "kvstore/sequence.h"
#include "kvstore/spiller.h"

namespace passband {

class Sealer {
 public:
  using Done = std::function<void(const Status&)>;

  struct Stats {
    uint64_t sealed = 0;
    uint64_t failures = 0;
    uint64_t pending = 0;
  };

  // `ledger`: what the catalog holds already.
  Sealer(BlockHome& home, Spiller& spiller, Catalog& catalog, const ModelRegistry& models,
         ColumnLedger ledger);
  ~Sealer();

  // The sequence is sealed (Sequence::Seal).
  void Seal(std::shared_ptr<Sequence> sequence, Done done);
  // Of a sequence that is closed. `contents` go once no record names them.
  void Forget(SequenceId id, Sequence::Contents contents);

  Stats stats() const;

 private:
  struct Request {
    std::shared_ptr<Sequence> sequence;  // to be sealed; null: to be forgotten
    Done done;
    SequenceId id;
    std::shared_ptr<Sequence::Contents> contents;
  };
  using Requests = std::vector<Request>;

  void Add(Request request);
  void Run();
  // The next ones, of one kind.
  Requests Next();
  void SealAll(Requests& requests);
  // Writes the blocks of each. Those that need no record, or cannot have one, are answered and
  // left out. Returns the oldest generation that the others need.
  uint64_t PrepareAll(Requests& requests);
  void ForgetAll(Requests& requests);
  // Writes its blocks.
  StatusOr<DurableSequence> Prepare(Sequence& sequence);
  StatusOr<BlockAddress> WriteBlock(Block& block);
  StatusOr<BlockAddress> WriteTail(Sequence& sequence, uint32_t layer, const BlockRef& block,
                                   uint64_t rows);
  // The oldest generation that it lies in.
  static uint64_t OldestOf(const DurableSequence& sequence);

  BlockHome& home_;
  Spiller& spiller_;
  Catalog& catalog_;
  const ModelRegistry& models_;
  std::atomic<uint64_t> sealed_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<uint64_t> pending_{0};
  // The thread's own.
  ColumnLedger ledger_;
  // Last blocks as they were written, where they did not take their sequence's place.
  absl::flat_hash_map<uint64_t, std::vector<BlockRef>> tails_;

  Mutex mutex_;  // a leaf
  std::condition_variable_any wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Request> queue_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;  // last: it uses the others
};

}  // namespace passband
