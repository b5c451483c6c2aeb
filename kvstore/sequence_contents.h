// SequenceContents: what a sequence holds: a Layer for each layer, its token ids and their names.
//
// committed   the least number of rows that any layer shows
// known       token ids told so far; may run ahead of the rows, or behind
//
// Threads    not safe: a part of Sequence, under its mutex.
// Ownership  claims blocks, through its layers, on the account of a tenant.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "kvstore/layer.h"
#include "kvstore/prefix_chain.h"
#include "kvstore/prefix_index.h"
#include "kvstore/tenant_account.h"
#include "kvstore/types.h"

namespace passband {

struct SequenceContents {
  // The columns of a known prefix, the same for every layer; `tokens` in all.
  static StatusOr<SequenceContents> FromColumns(const KvShape& shape,
                                                const std::shared_ptr<TenantAccount>& account,
                                                const std::vector<Column>& columns, uint64_t tokens,
                                                OverQuota over = OverQuota::kRefused);
  // The same for its first `tokens` (<= committed), which are shared.
  StatusOr<SequenceContents> Prefix(const KvShape& shape,
                                    const std::shared_ptr<TenantAccount>& account,
                                    uint64_t tokens) const;

  uint64_t Committed() const;
  bool appending() const;
  // The blocks of block `index` of every layer, and with its name.
  Column ColumnAt(uint64_t index) const;
  NamedColumn NamedColumnAt(uint64_t index) const;
  // Moves the columns that became complete to `complete`, for the prefix index.
  void TakeComplete(std::vector<NamedColumn>& complete);

  std::vector<Layer> layers;
  std::vector<uint32_t> token_ids;
  std::vector<PrefixDigest> chain;  // of the whole blocks of token_ids
  uint64_t indexed = 0;             // columns the prefix index was given
};

}  // namespace passband
