// Store: the keys and values of every sequence, and who may reach them.
//
// The facade of kvstore/: sequence table, prefix index, arena and tiers behind
// one door. All of it runs with no network.
//
//     Open / Fork -> append layer by layer -> Seal -> Close
//
// Appending is two steps, so that a transport can receive straight into the
// block: BeginAppend reserves, Commit publishes. A layer's rows become visible
// in token order, and never before they are whole.
//
// Memory that is larger than RAM. With a tier, whole blocks are written to it behind the
// appends and leave RAM, the coldest first, when it fills. A call that needs rows of such a
// block does not wait: it succeeds, lists the blocks in its MissingBlocks and gives nothing.
// The caller hands the list to Restore, and when that is done calls again, and only then drops
// the RestoreHold:
//
//     Resolve(.., rows, missing);
//     if (!missing.empty()) Restore(missing, deadline, [..](Status, RestoreHold hold) {
//       Resolve(.., rows, missing);  // now finds those rows; other ones may have left meanwhile
//     });
//
// The calls without a MissingBlocks do all of that themselves and wait: not for data threads.
//
// With a catalog, a sealed sequence survives a crash once Seal is done, with its prefix: a store
// created anew over the same tier and catalog has both again. What is not sealed is gone, but
// for prefixes that the tier holds: they are found again, whatever became of their sequences.
// Ids differ from one run to the next.
//
// Units      lengths in tokens; a token index counts from 0.
// Threads    safe. Data calls (BeginAppend, Resolve, ResolveRange) take one
//            short lock of the sequence, no global one for longer than a look-up.
//            sequence.h gives the order of the locks.
// Ownership  owns the arena; tier and catalog must outlive it. Rows and append slots keep their blocks alive
//            after Truncate, Close or eviction, until they are destroyed; all of
//            them before the store (checked).
// Errors     kNotFound           unknown or closed sequence, or another
//                                tenant's (the two are not told apart)
//            kInvalidArgument    layer, head or count out of the model's shape; a TTL beyond kMaxTtl
//            kOutOfRange         token index at or past the layer's length;
//                                past committed tokens (Fork, Truncate); past
//                                max_tokens
//            kFailedPrecondition changing a sealed sequence; a gap; sealing
//                                while an append is under way
//            kAlreadyExists      appending tokens that are already there
//            kResourceExhausted  no block is free, or too many sequences are
//                                open: with a retry-after. Nor does any call but Restore
//                                wait for memory
//                                Without a retry-after: the tenant has its quota
//            kDataLoss           (Restore, and calls that wait) the tier no longer has a
//                                block, or has it damaged: names sequence, layer, tokens
//            kDeadlineExceeded   (the same) it took too long
//            kUnavailable        (the same) the tier's device fails
//            kAborted            (Commit) an earlier append of the layer failed,
//                                or the rows were truncated away
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "kvstore/arena.h"
#include "kvstore/catalog.h"
#include "kvstore/missing_blocks.h"
#include "kvstore/pinned_blocks.h"
#include "kvstore/pinned_rows.h"
#include "kvstore/restorer.h"
#include "kvstore/sequence_life.h"
#include "kvstore/tenant_table.h"
#include "kvstore/tier.h"
#include "kvstore/types.h"

namespace passband {

class Store {
 public:
  struct Options {
    Arena::Options arena;
    uint64_t max_sequences = 100'000;
    const Clock* clock = nullptr;  // null: the real one
    TenantQuota tenant_quota;      // of each tenant but those named here:
    TenantTable::Quotas tenant_quotas;
    // Sequences that ask for no TTL of their own are closed after so long without use; zero:
    // never. How often they are looked for; zero: only by calls of Reap.
    Duration sequence_ttl{};
    Duration reap_interval = std::chrono::seconds(1);
    uint64_t pin_limit_bytes = 0;  // of each tenant (pin_budget.h)

    Tier* tier = nullptr;        // null: RAM is all there is
    Catalog* catalog = nullptr;  // null: nothing survives a restart; else needs a tier
    FullTierPolicy full_tier = FullTierPolicy::kDropOldest;
    // Of the arena: above `low` blocks are written to the tier, so that what has no copy there
    // stays under it; above `high` blocks leave RAM. 0 < low <= high <= 1.
    double low_watermark = 0.80;
    double high_watermark = 0.95;
    uint32_t restore_threads = 4;
    std::chrono::milliseconds restore_wait{10'000};  // of calls that wait
    BlockWatcher* watcher = nullptr;                 // of blocks; null: nobody watches one
  };

  struct OpenRequest {
    std::string tenant;
    std::string model;  // fingerprint of a registered model
    OwnerId owner;
    std::vector<uint32_t> token_ids;  // the prompt; may be empty
    bool share_prefix = true;         // start from cached blocks of the same tokens
    uint64_t max_tokens = 0;          // 0: no limit of its own
    Duration ttl{};                   // zero: the store's usual one
  };
  struct OpenResult {
    SequenceId id;
    uint64_t matched_tokens = 0;  // multiple of 64: already present in every layer
  };

  // A reserved place for rows of one layer that all lie in one block. Destroyed
  // without Commit, the reservation and every later one of the layer is void.
  class AppendSlot {
   public:
    AppendSlot(AppendSlot&&) noexcept;
    AppendSlot& operator=(AppendSlot&&) noexcept;
    ~AppendSlot();

    // False: it reserves nothing, for blocks are missing.
    explicit operator bool() const { return state_ != nullptr; }
    // The block's own memory. When covers_block(), the rows [kv_head][64]
    // may be written straight to it; otherwise use Scatter. Write nothing once
    // Commit was called.
    std::byte* block() const;
    bool covers_block() const;
    uint64_t bytes() const;  // count * kv_heads * row_bytes
    // Copies rows laid out [kv_head][count] to their places.
    void Scatter(const std::byte* rows) const;
    // Makes the rows visible (once those before them are). Once at most.
    Status Commit();

   private:
    friend class Store;
    struct State;
    AppendSlot();
    explicit AppendSlot(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  static StatusOr<std::unique_ptr<Store>> Create(Options options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Idempotent for an equal shape; kAlreadyExists when the fingerprint is known
  // with another one. kInvalidArgument when the shape is empty, its rows are not
  // a multiple of 16, or a block would not fit Arena::max_block_bytes().
  Status RegisterModel(const ModelSpec& model);
  StatusOr<ModelSpec> FindModel(const std::string& fingerprint) const;
  std::vector<ModelSpec> Models() const;

  StatusOr<OpenResult> Open(const OpenRequest& request);
  // A new sequence that shares the first `tokens` tokens (<= committed).
  StatusOr<SequenceId> Fork(const std::string& tenant, SequenceId id, uint64_t tokens,
                            OwnerId owner);
  // Names the tokens from index `first` (== known tokens), so that their blocks
  // can be found by prefix.
  Status ExtendTokenIds(const std::string& tenant, SequenceId id, uint64_t first,
                        std::span<const uint32_t> token_ids);
  // Forgets tokens >= `tokens` (<= committed) in every layer; appends under way
  // are void.
  Status Truncate(const std::string& tenant, SequenceId id, uint64_t tokens);
  // No more changes; the sequence outlives its owner. Sealing twice is no error. With a
  // catalog, `done` is called once it would survive a crash, on a thread of the store's or
  // before this returns; after an error it is sealed, but would not.
  void Seal(const std::string& tenant, SequenceId id, std::function<void(const Status&)> done);
  Status Seal(const std::string& tenant, SequenceId id);  // waits for that
  // Before the end: seals every sequence that has rows, and waits. `progress` is told of how many of how many
  // are durable, about once a second. Returns how many could not be made so.
  uint64_t SealAll(const std::function<void(uint64_t done, uint64_t of)>& progress);
  // Forgets the sequence. Its complete blocks stay findable by prefix until
  // their memory is needed.
  Status Close(const std::string& tenant, SequenceId id);
  // Keeps a sealed sequence, and its blocks in RAM, for `time` (zero: kUsualPin) from now on,
  // whoever opened it; a pin that it has is renewed. Brings back what is not in RAM first, and
  // calls `done` then, on a thread of the store's or before this returns. kFailedPrecondition:
  // it is not sealed; kResourceExhausted: the tenant has its limit, or RAM is taken.
  void Pin(const std::string& tenant, SequenceId id, Duration time,
           std::function<void(const Status&)> done);
  Status Pin(const std::string& tenant, SequenceId id, Duration time);  // waits for that
  // What is not pinned may be unpinned.
  Status Unpin(const std::string& tenant, SequenceId id);
  // Ends pins whose time is over. Closes the sequences, sealed ones too, that nobody used for their TTL. Returns how many.
  uint64_t Reap();
  // Closes every unsealed sequence of an owner that is gone, with its appends
  // under way (their Commit gives kNotFound). Returns how many.
  uint64_t CloseOwned(OwnerId owner);

  StatusOr<SequenceInfo> Stat(const std::string& tenant, SequenceId id) const;
  // Sequences of `tenant` (all tenants when empty), in id order, after `after`.
  std::vector<SequenceInfo> List(const std::string& tenant, SequenceId after, uint64_t limit) const;
  // Tokens of the longest cached prefix of `token_ids` (multiple of 64).
  StatusOr<uint64_t> Lookup(const std::string& tenant, const std::string& model,
                            std::span<const uint32_t> token_ids) const;

  // Reserves rows [first, first + count) of `layer`: within one block, and
  // first == the layer's reserved length. When the rows before them in the block are shared,
  // and missing, the slot is empty.
  StatusOr<AppendSlot> BeginAppend(const std::string& tenant, SequenceId id, uint32_t layer,
                                   uint64_t first, uint32_t count, MissingBlocks& missing);
  StatusOr<AppendSlot> BeginAppend(const std::string& tenant, SequenceId id, uint32_t layer,
                                   uint64_t first, uint32_t count);
  // Appends to `out` a pointer to each row of each group, in order; nothing when it leaves
  // something in `missing`.
  Status Resolve(const std::string& tenant, std::span<const RowGroup> groups, PinnedRows& out,
                 MissingBlocks& missing);
  Status Resolve(const std::string& tenant, std::span<const RowGroup> groups, PinnedRows& out);
  // Appends to `out` pointers to rows [first, first + count) of every kv head,
  // ordered [kv_head][token]; nothing when it leaves something in `missing`. Rows of one head
  // and block are contiguous.
  Status ResolveRange(const std::string& tenant, SequenceId id, uint32_t layer, uint64_t first,
                      uint64_t count, PinnedRows& out, MissingBlocks& missing);
  Status ResolveRange(const std::string& tenant, SequenceId id, uint32_t layer, uint64_t first,
                      uint64_t count, PinnedRows& out);
  // Pins the whole blocks that hold tokens [first, first + count), in order, but for those that
  // the caller does not want: `wanted` is called for each, with its place among them, under a
  // lock. Otherwise as ResolveRange.
  Status ResolveBlocks(const std::string& tenant, SequenceId id, uint32_t layer, uint64_t first,
                       uint64_t count, const WantedBlock& wanted, PinnedBlocks& out,
                       MissingBlocks& missing);
  // Brings the missing planes back, and then calls `done`, on a thread of the store's or before
  // it returns. kResourceExhausted when they do not fit RAM (then without a retry-after), or
  // RAM is taken.
  void Restore(const MissingBlocks& missing, Time deadline, RestoreDone done);

  // The model's shape of a sequence, for checking a request before serving it.
  StatusOr<KvShape> ShapeOf(const std::string& tenant, SequenceId id) const;

  // Forgets cached columns, least recently used first, until `bytes` came free
  // or none takes memory. Returns the bytes that came free.
  uint64_t Evict(uint64_t bytes);

  StoreStats Stats() const;
  // What tenants hold, `limit` of them at most (tenant_account.h says who pays for what).
  std::vector<TenantUse> Tenants(size_t limit) const;
  const Arena& arena() const;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  template <typename Call>
  Status CallUntilFound(Call call);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
