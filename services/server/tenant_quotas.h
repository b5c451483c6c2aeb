// TenantQuotas: what tenants may hold, as an operator writes it.
//
//     a=10GiB:1000,b=none:5    NAME=SIZE:COUNT, either of them none for no limit, 0 for nothing
//
// Threads  plain values.
// Errors   kInvalidArgument lists every fault, one line each, with the setting's name.
#pragma once

#include <string>

#include "base/status.h"
#include "kvstore/tenant_table.h"

namespace passband::server {

struct TenantQuotas {
  TenantQuota usual;
  TenantTable::Quotas named;
};

struct TenantQuotaTexts {
  std::string bytes;      // --tenant-bytes
  std::string sequences;  // --tenant-sequences
  std::string named;      // --tenant-quotas
};

StatusOr<TenantQuotas> ParseTenantQuotas(const TenantQuotaTexts& texts);

}  // namespace passband::server
