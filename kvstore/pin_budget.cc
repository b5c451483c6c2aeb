#include "kvstore/pin_budget.h"

#include "base/units.h"

namespace passband {

StatusOr<PinBudget::Ticket> PinBudget::Take(const std::string& tenant,
                                            const std::vector<BlockRef>& blocks) {
  std::vector<const Block*> held;
  held.reserve(blocks.size());
  const MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckLocked(tenant, blocks));
  Tenant& of = tenants_[tenant];
  for (const BlockRef& block : blocks) {
    held.push_back(block.get());
    if (of.holders[block.get()]++ > 0) continue;
    of.bytes += block->bytes();
    bytes_ += block->bytes();
  }
  ++of.pins;
  ++pins_;
  return Ticket(this, tenant, std::move(held));
}

Status PinBudget::Check(const std::string& tenant, const std::vector<BlockRef>& blocks) const {
  const MutexLock lock(mutex_);
  return CheckLocked(tenant, blocks);
}

Status PinBudget::CheckLocked(const std::string& tenant,
                              const std::vector<BlockRef>& blocks) const {
  if (limits_.tenant == 0) {
    return Error(StatusCode::kResourceExhausted,
                 "nothing is pinned here: have the server started with --pin-limit");
  }
  const auto found = tenants_.find(tenant);
  const Tenant none;
  const Tenant& of = found == tenants_.end() ? none : found->second;
  uint64_t more = 0;
  for (const BlockRef& block : blocks) {
    if (!of.holders.contains(block.get())) more += block->bytes();
  }
  if (of.bytes + more > limits_.tenant) {
    return Error(StatusCode::kResourceExhausted,
                 "tenant {} has {} pinned of {} at most, and {} more are asked for: unpin some, "
                 "or have the limit raised (--pin-limit)",
                 tenant, FormatBytes(static_cast<double>(of.bytes)),
                 FormatBytes(static_cast<double>(limits_.tenant)),
                 FormatBytes(static_cast<double>(more)));
  }
  if (bytes_ + more > limits_.all) {
    return Error(StatusCode::kResourceExhausted,
                 "all tenants have {} pinned of {} at most, half of the RAM, and {} more are asked "
                 "for: unpin some, or have the server given more --ram",
                 FormatBytes(static_cast<double>(bytes_)),
                 FormatBytes(static_cast<double>(limits_.all)),
                 FormatBytes(static_cast<double>(more)));
  }
  return OkStatus();
}

void PinBudget::Give(const std::string& tenant, std::span<const Block* const> blocks) {
  const MutexLock lock(mutex_);
  const auto found = tenants_.find(tenant);
  PASSBAND_CHECK(found != tenants_.end());
  Tenant& of = found->second;
  for (const Block* block : blocks) {
    const auto holder = of.holders.find(block);
    PASSBAND_CHECK(holder != of.holders.end());
    if (--holder->second > 0) continue;
    of.holders.erase(holder);
    of.bytes -= block->bytes();
    bytes_ -= block->bytes();
  }
  --pins_;
  if (--of.pins == 0) tenants_.erase(found);
}

uint64_t PinBudget::bytes() const {
  const MutexLock lock(mutex_);
  return bytes_;
}

uint64_t PinBudget::pins() const {
  const MutexLock lock(mutex_);
  return pins_;
}

}  // namespace passband
