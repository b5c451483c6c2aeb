#include "kvstore/tenant_table.h"

#include <algorithm>

namespace passband {

std::shared_ptr<TenantAccount> TenantTable::Find(const std::string& tenant) {
  const MutexLock lock(mutex_);
  if (const auto found = accounts_.find(tenant); found != accounts_.end()) return found->second;
  if (accounts_.size() >= forget_at_) ForgetUnused();
  const auto own = quotas_.find(tenant);
  auto account =
      std::make_shared<TenantAccount>(tenant, own == quotas_.end() ? usual_ : own->second, shares_);
  accounts_.emplace(tenant, account);
  return account;
}

void TenantTable::ForgetUnused() {
  // Whoever shares an account was given it under this mutex.
  for (auto it = accounts_.begin(); it != accounts_.end();) {
    const bool unused = it->second.use_count() == 1 && !it->second->has_blocks();
    it = unused ? accounts_.erase(it) : std::next(it);
  }
  forget_at_ = std::max(kFewest, 2 * accounts_.size());
}

std::vector<TenantUse> TenantTable::Uses(size_t limit) const {
  std::vector<TenantUse> out;
  const MutexLock lock(mutex_);
  for (const auto& [tenant, account] : accounts_) {
    if (out.size() >= limit) break;
    TenantUse use = account->use();
    const bool known = use.sequences > 0 || use.bytes > 0 || use.ram_bytes > 0;
    if (known || use.rejections > 0) out.push_back(std::move(use));
  }
  return out;
}

}  // namespace passband
