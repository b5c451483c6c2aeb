#include "kvstore/ram_shares.h"

#include <algorithm>

#include "base/status.h"

namespace passband {
namespace {

// What is to be paid, of the RAM in use; half of it may go before shares are reckoned again.
constexpr uint64_t kToPay = 16;

}  // namespace

RamShares::RamShares() : tenants_(std::make_unique<Tenant[]>(kSlots)) {
  MutexLock lock(mutex_);
  for (size_t slot = kSlots - 1; slot > kRest; --slot) {
    free_.push_back(static_cast<TenantSlot>(slot));
  }
  taken_.push_back(kRest);
  At(kRest).taken = true;
}

TenantSlot RamShares::Take(std::optional<uint64_t> limit) {
  MutexLock lock(mutex_);
  if (free_.empty()) return kRest;
  const TenantSlot slot = free_.back();
  free_.pop_back();
  taken_.push_back(slot);
  Tenant& tenant = At(slot);
  tenant.taken = true;
  tenant.limit = limit.value_or(kNoLimit);
  tenant.share.store(kNoLimit, kRelaxed);
  changed_ = true;
  return slot;
}

void RamShares::Give(TenantSlot slot) {
  if (slot == kRest) return;
  MutexLock lock(mutex_);
  PASSBAND_CHECK(At(slot).taken);
  At(slot).taken = false;
  std::erase(taken_, slot);
  free_.push_back(slot);
  changed_ = true;
}

void RamShares::Refresh(uint32_t tick) {
  MutexLock lock(mutex_);
  const bool drained = left_.load(kRelaxed) - reckoned_left_ >= reckon_again_;
  if (changed_ || tick != reckoned_tick_ || drained) Reckon(tick);
}

void RamShares::Reckon(uint32_t tick) {
  changed_ = false;
  reckoned_tick_ = tick;
  reckoned_left_ = left_.load(kRelaxed);
  std::vector<uint64_t> use;
  std::vector<TenantSlot> active;
  uint64_t total = 0;
  uint64_t all = 0;
  for (const TenantSlot slot : taken_) {
    Tenant& tenant = At(slot);
    const uint64_t ram = Bytes(tenant.ram);
    all += ram;
    if (tick - tenant.used.load(kRelaxed) > kActiveTicks) {
      tenant.share.store(0, kRelaxed);
      continue;
    }
    active.push_back(slot);
    use.push_back(std::min(ram, tenant.limit));
    total += ram;
  }
  const uint64_t level = Level(std::move(use), total - total / kToPay);
  for (const TenantSlot slot : active) {
    At(slot).share.store(std::min(level, At(slot).limit), kRelaxed);
  }
  reckon_again_ = static_cast<int64_t>(std::max<uint64_t>(1, all / kToPay / 2));
}

RamShares::Payable RamShares::payable() const {
  Payable out;
  MutexLock lock(mutex_);
  for (const TenantSlot slot : taken_) {
    if (!Pays(slot)) continue;
    const uint64_t ram = ram_bytes(slot);
    const uint64_t clean = std::min(ram, Bytes(At(slot).clean));
    out.clean += clean;
    out.dirty += ram - clean;
  }
  return out;
}

uint64_t RamShares::Level(std::vector<uint64_t> use, uint64_t total) {
  std::sort(use.begin(), use.end());
  for (size_t i = 0; i < use.size(); ++i) {
    const uint64_t even = total / (use.size() - i);
    if (use[i] > even) return even;
    total -= use[i];
  }
  return kNoLimit;
}

}  // namespace passband
