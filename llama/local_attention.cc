#include "llama/local_attention.h"

#include <algorithm>

#include "kernels/fac.h"
#include "llama/dense_attention.h"

namespace passband {

LocalAttention::LocalAttention(const LlamaConfig& config, WorkerPool& pool)
    : config_(config), pool_(pool) {}

Status LocalAttention::Attend(const AttendArgs& args) {
  for (const AttendItem& item : args.items) {
    PASSBAND_RETURN_IF_ERROR(AttendOne(args.layer, item));
  }
  return OkStatus();
}

Status LocalAttention::AttendOne(uint32_t layer, const AttendItem& item) {
  const uint64_t held = Tokens(item.handle, layer);
  if (item.first_position != held) {
    return Error(StatusCode::kInvalidArgument,
                 "handle {} layer {}: position {} does not continue its {} tokens", item.handle,
                 layer, item.first_position, held);
  }
  Sequence& sequence = sequences_[item.handle];
  sequence.resize(size_t{config_.layers} * config_.kv_heads);
  const size_t bytes = item.count * config_.head_shape().row_bytes();
  std::vector<const std::byte*> head_rows;
  for (uint32_t head = 0; head < config_.kv_heads; ++head) {
    std::vector<std::byte>& rows = sequence[layer * config_.kv_heads + head];
    const std::byte* from = item.rows + head * bytes;
    rows.insert(rows.end(), from, from + bytes);
    head_rows.push_back(rows.data());
  }
  if (item.count == 1) {
    AttendToken(item, head_rows);
    return OkStatus();
  }
  DenseCausalAttention({.shape = config_.head_shape(),
                        .q_heads = config_.q_heads,
                        .scale = config_.attention_scale(),
                        .first_position = item.first_position,
                        .count = item.count,
                        .queries = item.queries,
                        .head_rows = head_rows,
                        .out = item.out},
                       pool_);
  return OkStatus();
}

void LocalAttention::AttendToken(const AttendItem& item,
                                 std::span<const std::byte* const> head_rows) {
  const size_t group_floats = size_t{config_.group()} * config_.head_dim;
  pool_.Run(head_rows.size(), [&](size_t head) {
    kernels::FacContiguous({.shape = config_.head_shape(),
                            .group = static_cast<int>(config_.group()),
                            .scale = config_.attention_scale(),
                            .queries = item.queries + head * group_floats,
                            .out = item.out + head * group_floats},
                           head_rows[head], item.first_position + 1);
  });
}

uint64_t LocalAttention::Tokens(uint64_t handle, uint32_t layer) const {
  return Rows(handle, layer, 0).size() / config_.head_shape().row_bytes();
}

std::span<const std::byte> LocalAttention::Rows(uint64_t handle, uint32_t layer,
                                                uint32_t kv_head) const {
  const auto found = sequences_.find(handle);
  if (found == sequences_.end()) return {};
  return found->second[layer * config_.kv_heads + kv_head];
}

void LocalAttention::Truncate(uint64_t handle, uint64_t tokens) {
  const auto found = sequences_.find(handle);
  if (found == sequences_.end()) return;
  const size_t bytes = tokens * config_.head_shape().row_bytes();
  for (std::vector<std::byte>& rows : found->second) rows.resize(std::min(rows.size(), bytes));
}

void LocalAttention::Drop(uint64_t handle) { sequences_.erase(handle); }

}  // namespace passband
