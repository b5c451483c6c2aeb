// Sealer: makes sealed sequences survive a restart.
//
//     Seal -> the blocks that the tier does not have yet are written, and flushed
//          -> the sequence's record and those of its columns, in one batch
//     Forget -> the records go; then the blocks
//
// So what the catalog names is on the device. Requests that come together share the flush and
// the batch. A column is recorded once, however many sequences share it. What the prefix index
// holds of a sequence is recorded along with it, and outlives it (prefix_recorder.h).
//
// When the tier forgets a generation, its blocks that are still in RAM are written again, and
// their sequences recorded anew: at first only if nothing else has to be forgotten for that,
// then as the policy says, but ever more seldom while that goes on. Blocks that were nowhere
// else are lost; the records go on naming where they were.
//
// Records that cannot be erased are tried again, ever more seldom, while seals go on. After
// some tries their blocks are let go of: then a restart brings back what is left of them.
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
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/block_home.h"
#include "kvstore/catalog.h"
#include "kvstore/column_ledger.h"
#include "kvstore/model_registry.h"
#include "kvstore/prefix_recorder.h"
#include "kvstore/sequence.h"
#include "kvstore/sequence_table.h"
#include "kvstore/spiller.h"

namespace passband {

class Sealer {
 public:
  using Done = std::function<void(const Status&)>;

  struct Stats {
    uint64_t sealed = 0;
    uint64_t failures = 0;
    uint64_t pending = 0;
    uint64_t renewed = 0;           // recorded anew
    uint64_t renewals_pending = 0;  // sequences that should be
    uint64_t lost = 0;              // sequences with blocks that were nowhere else
    uint64_t erasure_failures = 0;
    uint64_t erasures_pending = 0;  // sequences that are closed, but recorded
    uint64_t prefixes = 0;          // columns of the prefix index that are recorded
  };

  // `ledger`: what the catalog holds already. `index` has a journal.
  Sealer(BlockHome& home, PrefixIndex& index, Spiller& spiller, Catalog& catalog,
         const ModelRegistry& models, const SequenceTable& table, ColumnLedger ledger);
  ~Sealer();

  // The sequence is sealed (Sequence::Seal).
  void Seal(std::shared_ptr<Sequence> sequence, Done done);
  // Of a sequence that is closed. `contents` go once no record names them.
  void Forget(SequenceId id, SequenceContents contents);

  Stats stats() const;

 private:
  struct Request {
    std::shared_ptr<Sequence> sequence;  // to be sealed; null: to be forgotten
    Done done;
    SequenceId id;
    std::shared_ptr<SequenceContents> contents;
  };
  using Requests = std::vector<Request>;

  // Work that did not succeed and is tried again, at first soon.
  struct Retry {
    Time next{};
    Duration pause{};
    uint32_t failures = 0;

    void Fail();
    void Succeed() { *this = {}; }
  };
  // What a record names although it could not be written.
  struct Gaps {
    Spiller::WhenFull when_full = Spiller::WhenFull::kRefuse;
    uint64_t lost = 0;
    Status refused;
  };
  struct Renewal {
    uint64_t id = 0;
    std::vector<BlockRef> former_tails;  // what the record named before
    Gaps gaps;
  };

  void Add(Request request);
  void Run();
  // The next ones, of one kind; none when it is time for what is tried again, or to end.
  Requests Next(bool& stopping);
  void SealAll(Requests& requests);
  // Writes the blocks of each. Those that need no record, or cannot have one, are answered and
  // left out. Returns the oldest generation that the others need.
  uint64_t PrepareAll(Requests& requests);
  // Erases the records of closed sequences. False: not all, and it is to be tried again.
  bool ForgetSome();
  // Notes whose blocks the tier forgot.
  void FindForgotten();
  // Of some of those, writes the blocks that are still there, and records them.
  void RenewSome();
  std::vector<SequenceId> NextToRenew();
  // Into the ledger; nothing when there is nothing to be recorded.
  std::optional<Renewal> Renew(SequenceId id);
  void KeepTails(Renewal& renewal);
  void NoteRenewed(Renewal& renewal);
  // Writes its blocks. With `gaps`, a block that cannot be written stays where it was.
  StatusOr<DurableSequence> Prepare(Sequence& sequence, Gaps* gaps);
  Status WriteTails(Sequence& sequence, const Sequence::Kept& kept, Gaps* gaps,
                    std::vector<BlockAddress>& tail);
  StatusOr<BlockAddress> WriteBlock(Block& block, Gaps* gaps);
  StatusOr<BlockAddress> WriteTail(Sequence& sequence, uint32_t layer, const BlockRef& block,
                                   uint64_t rows, Gaps* gaps);
  static std::vector<PrefixDigest> NamesOf(const DurableSequence& sequence);
  // The oldest generation that it lies in.
  static uint64_t OldestOf(const DurableSequence& sequence);

  BlockHome& home_;
  Spiller& spiller_;
  Catalog& catalog_;
  const ModelRegistry& models_;
  const SequenceTable& table_;
  std::atomic<uint64_t> sealed_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<uint64_t> pending_{0};
  std::atomic<uint64_t> renewed_{0};
  std::atomic<uint64_t> renewals_pending_{0};
  std::atomic<uint64_t> lost_{0};
  std::atomic<uint64_t> erasure_failures_{0};
  std::atomic<uint64_t> erasures_pending_{0};
  // The thread's own.
  ColumnLedger ledger_;
  PrefixRecorder prefixes_;
  // Last blocks as they were written, where they did not take their sequence's place.
  absl::flat_hash_map<uint64_t, std::vector<BlockRef>> tails_;
  std::deque<Request> to_forget_;
  Retry forgetting_;
  uint64_t forgotten_;           // generations up to here are known to be
  std::set<uint64_t> to_renew_;  // ids
  uint64_t renewed_up_to_ = 0;   // of to_renew_, in this round
  bool unfinished_ = false;      // of this round, something is to be tried again
  Retry renewing_;

  Mutex mutex_;  // a leaf
  std::condition_variable_any wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Request> queue_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;  // last: it uses the others
};

}  // namespace passband
