// Layer: the rows of one layer of one sequence: its blocks, how many rows are
// visible, and the appends under way.
//
//   0 ........ published ........ reserved
//     visible              being written by holders of tickets
//
// Writing in place. A block may be shared with other sequences, the prefix
// index and readers. This layer writes rows of its last block in place only when
// they are rows that it was never shown with, or when nobody else claims the
// block; else it copies the rows before them to a block of its own first.
// So a row that anyone can see never changes.
//
// A whole block that is published is frozen: it may leave for the tier. Rows of a block that is
// not in RAM are not read or copied; the call names the block as missing instead.
//
// Units    tokens.
// Threads  not safe: a part of Sequence, under its mutex.
// Ownership  claims its blocks, and holds them on its tenant's account until it lets go of them.
// Errors   as store.h gives them for BeginAppend, Commit and Resolve, without
//          the sequence's name.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "kvstore/block_pool.h"
#include "kvstore/missing_blocks.h"
#include "kvstore/pinned_blocks.h"
#include "kvstore/pinned_rows.h"
#include "kvstore/tenant_account.h"
#include "kvstore/types.h"

namespace passband {

class Layer {
 public:
  struct Ticket {
    uint64_t number = 0;
    uint64_t first = 0;
    uint32_t count = 0;
    BlockRef block;  // where the rows are to be written; none: something is missing
  };
  // Which blocks a call's PinnedRows pins already; and of those, which may lack planes.
  struct Seen {
    std::vector<uint64_t> pinned;
    std::vector<uint64_t> partial;

    void Reset(size_t blocks) {
      pinned.assign((blocks + 63) / 64, 0);
      partial.assign((blocks + 63) / 64, 0);
    }
  };

  // Starts with whole or partial blocks that others may claim too. The account is asked first.
  static StatusOr<Layer> Create(const KvShape& shape, uint32_t number,
                                std::shared_ptr<TenantAccount> account,
                                std::vector<BlockRef> blocks, uint64_t tokens,
                                OverQuota over = OverQuota::kRefused);
  Layer(Layer&&) noexcept = default;
  Layer& operator=(Layer&&) = delete;
  ~Layer();

  uint64_t published() const { return published_; }
  uint64_t reserved() const { return reserved_; }
  bool appending() const { return !pending_.empty(); }
  const std::vector<BlockRef>& blocks() const { return blocks_; }

  // What is missing is added for `sequence`.
  StatusOr<Ticket> Reserve(uint64_t first, uint32_t count, BlockPool& pool, SequenceId sequence,
                           MissingBlocks& missing);
  Status Commit(const Ticket& ticket);
  // Voids the ticket and all after it. Blocks left empty move to `released`,
  // to be destroyed where no lock is held.
  void Abort(const Ticket& ticket, std::vector<BlockRef>& released);
  // Forgets tokens >= `tokens` (<= published) and voids every ticket.
  void Truncate(uint64_t tokens, std::vector<BlockRef>& released);

  // The tenant pays for it no more, though it still claims its blocks. Nothing is added after.
  void LeaveAccount();
  // Of a layer that nobody appends to: by a block with the same rows. Returns the one before.
  BlockRef ReplaceLast(BlockRef by) {
    // A seal is not refused: the quota may be exceeded by last blocks that were shared.
    account_->Replace(*blocks_.back().get(), *by.get(), OverQuota::kAllowed).IgnoreError();
    std::swap(blocks_.back(), by);
    return by;
  }

  // Appends pointers to `out`; on error, or when something is missing, leaves what it had
  // appended.
  Status Resolve(uint32_t kv_head, std::span<const uint32_t> tokens, SequenceId sequence,
                 Seen& seen, PinnedRows& out, MissingBlocks& missing) const;
  // Every kv head's rows [first, first + count), which must be published.
  void ResolveRange(uint64_t first, uint64_t count, SequenceId sequence, PinnedRows& out,
                    MissingBlocks& missing) const;

  // Pins the blocks of those rows that `wanted` asks for.
  void ResolveBlocks(uint64_t first, uint64_t count, SequenceId sequence, const WantedBlock& wanted,
                     PinnedBlocks& out, MissingBlocks& missing) const;

 private:
  struct Pending {
    uint64_t number;
    uint64_t first;
    uint32_t count;
    bool committed;
  };

  Layer(const KvShape& shape, uint32_t number, std::shared_ptr<TenantAccount> account,
        std::vector<BlockRef> blocks, uint64_t tokens);

  std::deque<Pending>::iterator Find(const Ticket& ticket);  // end() when void
  bool MayWriteInPlace(uint64_t first) const;
  StatusOr<BlockRef> AllocateBlock(BlockPool& pool) const;
  // False: the last block's rows are missing.
  StatusOr<bool> CopyLastBlock(uint64_t end, BlockPool& pool, SequenceId sequence,
                               MissingBlocks& missing);
  void FreezeWhole(uint64_t published_before);
  bool PinPlane(uint64_t index, uint32_t plane, SequenceId sequence, Seen& seen, PinnedRows& out,
                MissingBlocks& missing) const;
  // Copies what this layer holds of rows [block start, end) to `to`.
  void CopyHeldRows(uint64_t end, Block& to) const;
  void CopyRows(uint64_t first, uint64_t end, const Block& from, Block& to) const;
  void Shrink(uint64_t reserved, std::vector<BlockRef>& released);

  KvShape shape_;
  uint32_t number_;
  uint32_t plane_heads_;  // kv heads in a plane
  std::shared_ptr<TenantAccount> account_;
  std::vector<BlockRef> blocks_;
  uint64_t published_;
  uint64_t reserved_;
  uint64_t writable_from_;  // no one was ever shown rows from here on
  uint64_t next_number_ = 0;
  std::deque<Pending> pending_;  // from published_ to reserved_, without gaps
};

}  // namespace passband
