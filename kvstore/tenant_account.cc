#include "kvstore/tenant_account.h"

#include "base/units.h"

namespace passband {

TenantAccount::TenantAccount(std::string tenant, const TenantQuota& quota, RamShares* shares)
    : tenant_(std::move(tenant)),
      quota_(quota),
      shares_(shares),
      ram_slot_(shares == nullptr ? RamShares::kRest : shares->Take(quota.bytes)) {}

TenantAccount::~TenantAccount() {
  if (shares_ != nullptr) shares_->Give(ram_slot_);
}

bool TenantAccount::has_blocks() const {
  return ram_slot_ != RamShares::kRest && shares_->has_blocks(ram_slot_);
}

Status TenantAccount::Hold(std::span<const BlockRef> blocks, OverQuota over) {
  const MutexLock lock(mutex_);
  uint64_t more = 0;
  for (const BlockRef& block : blocks) {
    if (!holders_.contains(block.get())) more += block->bytes();
  }
  if (over == OverQuota::kRefused) PASSBAND_RETURN_IF_ERROR(CheckRoomLocked(more));
  for (const BlockRef& block : blocks) HoldLocked(*block.get());
  return OkStatus();
}

Status TenantAccount::Replace(const Block& last, const Block& next, OverQuota over) {
  const MutexLock lock(mutex_);
  const auto found = holders_.find(&last);
  PASSBAND_CHECK(found != holders_.end());
  // Held by this one alone, it makes room for the other.
  const uint64_t less = found->second == 1 ? last.bytes() : 0;
  if (next.bytes() > less && over == OverQuota::kRefused) {
    PASSBAND_RETURN_IF_ERROR(CheckRoomLocked(next.bytes() - less));
  }
  DropLocked(last);
  HoldLocked(next);
  return OkStatus();
}

void TenantAccount::Drop(std::span<const BlockRef> blocks) {
  const MutexLock lock(mutex_);
  for (const BlockRef& block : blocks) DropLocked(*block.get());
}

Status TenantAccount::CheckRoom(uint64_t bytes) {
  const MutexLock lock(mutex_);
  return CheckRoomLocked(bytes);
}

Status TenantAccount::CheckRoomLocked(uint64_t bytes) {
  if (bytes == 0 || !quota_.bytes.has_value() || bytes_ + bytes <= *quota_.bytes) {
    return OkStatus();
  }
  ++rejections_;
  return Error(StatusCode::kResourceExhausted,
               "tenant {} holds {} of its quota of {}, and {} more are asked for: close or "
               "truncate sequences, or have the quota raised",
               tenant_, FormatBytes(bytes_), FormatBytes(*quota_.bytes), FormatBytes(bytes));
}

void TenantAccount::HoldLocked(const Block& block) {
  if (holders_[&block]++ == 0) bytes_ += block.bytes();
}

void TenantAccount::DropLocked(const Block& block) {
  const auto found = holders_.find(&block);
  PASSBAND_CHECK(found != holders_.end());
  if (--found->second > 0) return;
  holders_.erase(found);
  bytes_ -= block.bytes();
}

Status TenantAccount::TakeSequence(OverQuota over) {
  const MutexLock lock(mutex_);
  if (over == OverQuota::kAllowed || !quota_.sequences.has_value() ||
      sequences_ < *quota_.sequences) {
    ++sequences_;
    return OkStatus();
  }
  ++rejections_;
  return Error(StatusCode::kResourceExhausted,
               "tenant {} has {} sequences of its quota of {}: close some, or have the quota "
               "raised",
               tenant_, sequences_, *quota_.sequences);
}

void TenantAccount::DropSequence() {
  const MutexLock lock(mutex_);
  PASSBAND_CHECK(sequences_ > 0);
  --sequences_;
}

TenantUse TenantAccount::use() const {
  const MutexLock lock(mutex_);
  return {.tenant = tenant_,
          .bytes = bytes_,
          .ram_bytes = ram_slot_ == RamShares::kRest ? 0 : shares_->ram_bytes(ram_slot_),
          .sequences = sequences_,
          .quota = quota_,
          .rejections = rejections_};
}

}  // namespace passband
