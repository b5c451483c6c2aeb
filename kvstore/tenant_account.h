// TenantAccount: what one tenant's sequences hold, and may hold.
//
// A tenant pays once for each block that any of its sequences holds, however many share it, in
// RAM or below. Prefixes are shared within a tenant only, so a block has one payer. A block that
// nothing but the prefix index remembers costs nothing: it goes when memory is needed. A block
// is off the bill when the last sequence lets go of it, though a reply may still read it.
//
// Units      bytes, sequences.
// Threads    safe; a leaf mutex.
// Ownership  shared by the tenant's sequences and their layers.
// Errors     kResourceExhausted, naming quota and use; then nothing has changed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/block.h"
#include "kvstore/ram_shares.h"

namespace passband {

// Absent: no limit. Zero: nothing at all.
struct TenantQuota {
  std::optional<uint64_t> bytes;
  std::optional<uint64_t> sequences;
};

// Allowed: what is sealed, and what was stored before a restart, is there whatever the quota is.
enum class OverQuota : uint8_t { kRefused, kAllowed };

struct TenantUse {
  std::string tenant;
  uint64_t bytes = 0;
  uint64_t ram_bytes = 0;  // of its blocks in RAM, those that only the prefix index knows included
  uint64_t sequences = 0;
  TenantQuota quota;
  uint64_t rejections = 0;
};

class TenantAccount {
 public:
  // `shares` may be null: then its RAM is not counted. It must outlive this.
  TenantAccount(std::string tenant, const TenantQuota& quota, RamShares* shares = nullptr);
  ~TenantAccount();
  TenantAccount(const TenantAccount&) = delete;
  TenantAccount& operator=(const TenantAccount&) = delete;

  // One sequence holds these blocks from now on, each once more than before.
  Status Hold(std::span<const BlockRef> blocks, OverQuota over = OverQuota::kRefused);
  // `next` in place of `last`, in one step.
  Status Replace(const Block& last, const Block& next, OverQuota over = OverQuota::kRefused);
  // Of blocks that were held. The caller still claims them.
  void Drop(std::span<const BlockRef> blocks);
  // Whether `bytes` more may be held now: to be asked before memory is looked for.
  Status CheckRoom(uint64_t bytes);

  Status TakeSequence(OverQuota over = OverQuota::kRefused);
  void DropSequence();

  // Which of the RAM's tenants it is.
  TenantSlot ram_slot() const { return ram_slot_; }
  // Some block of it is known, to the prefix index alone perhaps.
  bool has_blocks() const;

  TenantUse use() const;

 private:
  Status CheckRoomLocked(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HoldLocked(const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropLocked(const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string tenant_;
  const TenantQuota quota_;
  RamShares* const shares_;
  const TenantSlot ram_slot_;
  mutable Mutex mutex_;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t sequences_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t rejections_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<const Block*, uint32_t> holders_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
