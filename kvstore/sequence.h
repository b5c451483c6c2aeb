// Sequence: one run of tokens, for many threads: what it holds, how long it lives,
// whether it is sealed, pinned or closed.
//
// Threads  safe: one mutex, held for look-ups and list edits, for copying one
//          block when a shared one is appended to, and for the wait for a free
//          block. Never while hashing token ids. Lock order, outermost first:
//            SequenceTable -> nothing (it is let go before a sequence locks)
//            Sequence -> PrefixIndex -> Arena
//          and no thread locks two sequences.
// Errors   as store.h; kNotFound after Close.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/missing_blocks.h"
#include "kvstore/pin_budget.h"
#include "kvstore/pinned_blocks.h"
#include "kvstore/pinned_rows.h"
#include "kvstore/prefix_chain.h"
#include "kvstore/prefix_index.h"
#include "kvstore/restorer.h"
#include "kvstore/sequence_contents.h"
#include "kvstore/sequence_life.h"
#include "kvstore/types.h"

namespace passband {

// Keeps the blocks of a sealed sequence in RAM.
struct SequencePin {
  RestoreHold hold;
  PinBudget::Ticket ticket;  // goes first: it tells the blocks apart
};

class Sequence {
 public:
  struct Identity {
    SequenceId id;
    std::string tenant;
    std::string model;  // fingerprint
    KvShape shape;
    OwnerId owner;
    uint64_t max_tokens = 0;  // 0: no limit of its own
    PrefixDigest root{};      // of its prefix chain
    std::shared_ptr<TenantAccount> account;
    Ttl ttl{};  // at first
  };

  // `clock` must outlive this.
  Sequence(Identity identity, SequenceContents contents, const Clock& clock, bool sealed = false);

  // Never change: need no lock.
  SequenceId id() const { return identity_.id; }
  const Identity& identity() const { return identity_; }
  SequenceLife& life() { return life_; }
  const SequenceLife& life() const { return life_; }

  // A ticket without a block: `missing` is to be restored first.
  StatusOr<Layer::Ticket> BeginAppend(uint32_t layer, uint64_t first, uint32_t count,
                                      BlockPool& pool, MissingBlocks& missing);
  // Moves the columns that became complete to `complete`, for the prefix index.
  Status Commit(uint32_t layer, const Layer::Ticket& ticket, std::vector<NamedColumn>& complete);
  void Abort(uint32_t layer, const Layer::Ticket& ticket);

  // All groups are of this sequence. On error, or with something missing, `out` has more than
  // it had, for the caller to drop.
  Status Resolve(std::span<const RowGroup> groups, PinnedRows& out, MissingBlocks& missing);
  Status ResolveRange(uint32_t layer, uint64_t first, uint64_t count, PinnedRows& out,
                      MissingBlocks& missing);

  Status ResolveBlocks(uint32_t layer, uint64_t first, uint64_t count, const WantedBlock& wanted,
                       PinnedBlocks& out, MissingBlocks& missing);

  Status ExtendTokenIds(uint64_t first, std::span<const uint32_t> token_ids,
                        std::vector<NamedColumn>& complete);
  Status Truncate(uint64_t tokens);
  Status Seal();
  StatusOr<SequenceContents> Fork(uint64_t tokens);
  // What has to be kept of a sealed sequence: `committed` tokens.
  struct Kept {
    uint64_t committed = 0;
    std::vector<Column> columns;  // the last one may be partly filled
    std::vector<uint32_t> token_ids;
    std::vector<PrefixDigest> chain;
  };
  StatusOr<Kept> Keep() const;
  // Of a sealed sequence: the last block of a layer, which is partly filled, by one with the
  // same rows. False: it has other blocks, or rows that are not committed.
  bool ReplaceTail(uint32_t layer, const BlockRef& block, const BlockRef& by);
  // Every plane of every block of a sealed sequence.
  Status ListBlocks(MissingBlocks& all) const;
  // In place of the pin that it has. kNotFound when it is closed.
  Status Pin(SequencePin pin, Duration time);
  // For longer, or less long. False when it has no pin.
  bool PinAgain(Duration time);
  void Unpin();
  // True: it had one.
  bool UnpinIfOver();

  // What it held, and whether it was sealed; nothing when it is closed already.
  struct Closed {
    SequenceContents contents;
    bool sealed = false;
    std::optional<SequencePin> pin;
  };
  std::optional<Closed> Close();
  // The same, if it is over and no append is under way; else nothing.
  std::optional<Closed> CloseIfOver();
  // False when it is closed or sealed.
  bool CloseUnlessSealed();

  // All columns that the index was given before, from the first on.
  std::vector<NamedColumn> GivenColumns() const;
  StatusOr<SequenceInfo> Stat() const;
  // The short form of Stat, for sums over all sequences.
  struct Length {
    uint64_t committed = 0;
    bool sealed = false;
  };
  StatusOr<Length> length() const;

 private:
  Status CheckOpen() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status CheckAppendable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status CheckExtension(uint64_t first, uint64_t count) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status CheckLayer(uint32_t layer) const;
  Status CheckLimit(uint64_t tokens) const;
  Status CheckRange(uint32_t layer, uint64_t first, uint64_t count) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status ResolveLocked(std::span<const RowGroup> groups, PinnedRows& out, MissingBlocks& missing)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Closed> CloseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Identity identity_;
  SequenceLife life_;
  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool sealed_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t ids_version_ ABSL_GUARDED_BY(mutex_) = 0;  // counts changes of token_ids
  SequenceContents contents_ ABSL_GUARDED_BY(mutex_);
  std::optional<SequencePin> pin_ ABSL_GUARDED_BY(mutex_);
  Layer::Seen seen_ ABSL_GUARDED_BY(mutex_);  // scratch of Resolve
};

}  // namespace passband
