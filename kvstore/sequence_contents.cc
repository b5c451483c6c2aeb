#include "kvstore/sequence_contents.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace passband {

StatusOr<SequenceContents> SequenceContents::FromColumns(
    const KvShape& shape, const std::shared_ptr<TenantAccount>& account,
    const std::vector<Column>& columns, uint64_t tokens, OverQuota over) {
  SequenceContents contents;
  contents.indexed = tokens / kBlockTokens;
  contents.layers.reserve(shape.layers);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    std::vector<BlockRef> blocks;
    blocks.reserve(columns.size());
    for (const Column& column : columns) blocks.push_back(column[layer]);
    PASSBAND_ASSIGN_OR_RETURN(
        Layer rows, Layer::Create(shape, layer, account, std::move(blocks), tokens, over));
    contents.layers.push_back(std::move(rows));
  }
  return contents;
}

StatusOr<SequenceContents> SequenceContents::Prefix(const KvShape& shape,
                                                    const std::shared_ptr<TenantAccount>& account,
                                                    uint64_t tokens) const {
  const auto blocks = static_cast<ptrdiff_t>((tokens + kBlockTokens - 1) / kBlockTokens);
  const uint64_t known = std::min<uint64_t>(tokens, token_ids.size());
  SequenceContents prefix;
  prefix.layers.reserve(layers.size());
  for (uint32_t layer = 0; layer < layers.size(); ++layer) {
    const auto& shared = layers[layer].blocks();
    PASSBAND_ASSIGN_OR_RETURN(
        Layer rows,
        Layer::Create(shape, layer, account, {shared.begin(), shared.begin() + blocks}, tokens));
    prefix.layers.push_back(std::move(rows));
  }
  prefix.token_ids.assign(token_ids.begin(), token_ids.begin() + static_cast<ptrdiff_t>(known));
  prefix.chain.assign(chain.begin(), chain.begin() + static_cast<ptrdiff_t>(known / kBlockTokens));
  prefix.indexed = std::min(indexed, known / kBlockTokens);
  return prefix;
}

uint64_t SequenceContents::Committed() const {
  uint64_t committed = std::numeric_limits<uint64_t>::max();
  for (const Layer& layer : layers) committed = std::min(committed, layer.published());
  return committed;
}

bool SequenceContents::appending() const { return std::ranges::any_of(layers, &Layer::appending); }

Column SequenceContents::ColumnAt(uint64_t index) const {
  Column column;
  column.reserve(layers.size());
  for (const Layer& layer : layers) column.push_back(layer.blocks()[index]);
  return column;
}

NamedColumn SequenceContents::NamedColumnAt(uint64_t index) const {
  NamedColumn column{
      .digest = chain[index], .parent = {}, .first = index == 0, .blocks = ColumnAt(index)};
  if (index > 0) column.parent = chain[index - 1];
  return column;
}

void SequenceContents::TakeComplete(std::vector<NamedColumn>& complete) {
  if (indexed == chain.size()) return;
  const uint64_t end = std::min<uint64_t>(chain.size(), Committed() / kBlockTokens);
  for (; indexed < end; ++indexed) complete.push_back(NamedColumnAt(indexed));
}

}  // namespace passband
