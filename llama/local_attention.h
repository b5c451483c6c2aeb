// LocalAttention: the backend that keeps all rows in this process and attends
// to all of them. The full-attention baseline, and the simplest way to run a
// model.
//
// Handles are free numbers; a sequence begins with its first append at
// position 0.
//
// Threads    one caller at a time.
// Ownership  owns the rows.
// Errors     kInvalidArgument when an item does not continue its sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "llama/attention_backend.h"
#include "llama/config.h"
#include "llama/worker_pool.h"

namespace passband {

class LocalAttention final : public AttentionBackend {
 public:
  // `pool` must outlive this; LlamaModel::pool() will do.
  LocalAttention(const LlamaConfig& config, WorkerPool& pool);

  Status Attend(const AttendArgs& args) override;

  // Rows that the layer holds; empty for an unknown handle.
  uint64_t Tokens(uint64_t handle, uint32_t layer) const;
  // The rows [tokens][K | V] of one kv head; valid until the next call that
  // changes the sequence.
  std::span<const std::byte> Rows(uint64_t handle, uint32_t layer, uint32_t kv_head) const;

  // Forgets positions >= `tokens` in every layer.
  void Truncate(uint64_t handle, uint64_t tokens);
  void Drop(uint64_t handle);

 private:
  // [layer * kv_heads + kv_head] -> rows.
  using Sequence = std::vector<std::vector<std::byte>>;

  Status AttendOne(uint32_t layer, const AttendItem& item);
  // A single position: no tile to fill, so one pass over the rows.
  void AttendToken(const AttendItem& item, std::span<const std::byte* const> head_rows);

  LlamaConfig config_;
  WorkerPool& pool_;
  std::map<uint64_t, Sequence> sequences_;
};

}  // namespace passband
