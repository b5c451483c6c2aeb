// TenantTable: the account of each tenant that has sequences, and what each may hold.
//
// An account that nobody uses any more, and of which no block is left, is forgotten, some time
// later: names of tenants come from outside, and there is no end of them.
//
// Threads    safe; one mutex, outside that of an account.
// Ownership  shares the accounts with the sequences.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "base/mutex.h"
#include "kvstore/tenant_account.h"

namespace passband {

class TenantTable {
 public:
  using Quotas = absl::btree_map<std::string, TenantQuota>;

  // `quotas`: of those who do not have the usual one.
  // `shares` must outlive this.
  TenantTable(const TenantQuota& usual, Quotas quotas, RamShares* shares = nullptr)
      : usual_(usual), quotas_(std::move(quotas)), shares_(shares) {}

  std::shared_ptr<TenantAccount> Find(const std::string& tenant);
  // In the order of their names: who holds something or was refused, `limit` at most.
  std::vector<TenantUse> Uses(size_t limit) const;

 private:
  static constexpr size_t kFewest = 64;

  void ForgetUnused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TenantQuota usual_;
  const Quotas quotas_;
  RamShares* const shares_;
  mutable Mutex mutex_;
  absl::btree_map<std::string, std::shared_ptr<TenantAccount>> accounts_ ABSL_GUARDED_BY(mutex_);
  size_t forget_at_ ABSL_GUARDED_BY(mutex_) = kFewest;
};

}  // namespace passband
