#include "services/worker/engine_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "llama/dense_attention.h"

namespace passband {
namespace {

std::vector<const std::byte*> HeadPointers(const std::byte* rows, uint32_t kv_heads,
                                           uint64_t head_bytes) {
  std::vector<const std::byte*> heads;
  for (uint32_t head = 0; head < kv_heads; ++head) heads.push_back(rows + head * head_bytes);
  return heads;
}

float ScaleOf(const Engine& engine) {
  const float scale = engine.options().scale;
  return scale != 0 ? scale : 1.0F / std::sqrt(static_cast<float>(engine.model().head.head_dim));
}

}  // namespace

void CopyTokenRows(const std::byte* rows, uint32_t kv_heads, uint32_t count, size_t row_bytes,
                   uint32_t index, std::byte* out) {
  for (size_t head = 0; head < kv_heads; ++head) {
    std::memcpy(out + head * row_bytes, rows + (head * count + index) * row_bytes, row_bytes);
  }
}

EngineAttention::EngineAttention(Engine& engine, WorkerPool& pool, Options options)
    : engine_(engine), pool_(pool), options_(std::move(options)) {}

void EngineAttention::Add(uint64_t handle, WorkerSequence& sequence, uint64_t prompt_tokens) {
  entries_[handle] = {&sequence, prompt_tokens};
}

void EngineAttention::Remove(uint64_t handle) { entries_.erase(handle); }

Status EngineAttention::Attend(const AttendArgs& args) {
  std::vector<StepItem> decode;
  for (const AttendItem& item : args.items) {
    const auto found = entries_.find(item.handle);
    if (found == entries_.end()) {
      return Error(StatusCode::kInvalidArgument, "sequence {} is not attended to", item.handle);
    }
    const Entry& entry = found->second;
    if (item.first_position < entry.prompt_tokens) {
      PASSBAND_RETURN_IF_ERROR(AttendPrompt(args.layer, entry, item));
    } else if (item.count == 1) {
      decode.push_back({entry.sequence, item.queries, item.rows, item.out});
    } else {
      PASSBAND_RETURN_IF_ERROR(Walk(args.layer, *entry.sequence, item, options_.full));
    }
  }
  return decode.empty() ? OkStatus() : StepBatch(args.layer, decode, options_.full);
}

Status EngineAttention::StepBatch(uint32_t layer, std::span<const StepItem> items, bool full) {
  return full ? engine_.StepFull(layer, items) : engine_.Step(layer, items);
}

Status EngineAttention::AttendPrompt(uint32_t layer, const Entry& entry, const AttendItem& item) {
  if (options_.sparse_suffix && entry.sequence->attached_tokens() > 0) {
    PASSBAND_RETURN_IF_ERROR(Walk(layer, *entry.sequence, item, false));
  } else {
    PASSBAND_RETURN_IF_ERROR(AttendExact(layer, *entry.sequence, item));
  }
  if (options_.on_layer) options_.on_layer(item.count);
  return OkStatus();
}

Status EngineAttention::Walk(uint32_t layer, WorkerSequence& sequence, const AttendItem& item,
                             bool full) {
  const ModelInfo& model = engine_.model();
  const size_t query_stride = size_t{model.query_heads} * model.head.head_dim;
  std::vector<std::byte> row(model.kv_heads * model.head.row_bytes());
  for (uint32_t i = 0; i < item.count; ++i) {
    CopyTokenRows(item.rows, model.kv_heads, item.count, model.head.row_bytes(), i, row.data());
    const StepItem step{&sequence, item.queries + i * query_stride, row.data(),
                        item.out + i * query_stride};
    PASSBAND_RETURN_IF_ERROR(StepBatch(layer, std::span(&step, 1), full));
  }
  return OkStatus();
}

Status EngineAttention::AttendExact(uint32_t layer, WorkerSequence& sequence,
                                    const AttendItem& item) {
  const ModelInfo& model = engine_.model();
  const uint64_t tokens = item.first_position + item.count;
  std::vector<std::byte> joined;
  const std::byte* rows = item.rows;
  if (item.first_position > 0) {
    PASSBAND_ASSIGN_OR_RETURN(joined, JoinRows(layer, sequence, item));
    rows = joined.data();
  }
  const uint64_t head_bytes = tokens * model.head.row_bytes();
  peak_layer_bytes_ = std::max(peak_layer_bytes_, head_bytes * model.kv_heads);
  const auto heads = HeadPointers(rows, model.kv_heads, head_bytes);
  Dense(item, heads);
  if (options_.observer != nullptr) options_.observer->OnLayer(layer, tokens, heads);
  return engine_.AppendRows(sequence, layer, item.first_position, item.count, item.rows);
}

void EngineAttention::Dense(const AttendItem& item, std::span<const std::byte* const> head_rows) {
  DenseAttentionArgs args;
  args.shape = engine_.model().head;
  args.q_heads = engine_.model().query_heads;
  args.scale = ScaleOf(engine_);
  args.first_position = item.first_position;
  args.count = item.count;
  args.queries = item.queries;
  args.head_rows = head_rows;
  args.out = item.out;
  DenseCausalAttention(args, pool_);
}

StatusOr<std::vector<std::byte>> EngineAttention::JoinRows(uint32_t layer, WorkerSequence& sequence,
                                                           const AttendItem& item) {
  // An earlier piece may still be on its way, or in the tail.
  if (sequence.attached_tokens() < item.first_position) {
    PASSBAND_RETURN_IF_ERROR(engine_.Flush(sequence));
  }
  const auto pending = engine_.service().StartRead(
      {.sequence = sequence.id(), .layer = layer, .first_token = 0, .count = item.first_position});
  PASSBAND_ASSIGN_OR_RETURN(const auto before, pending->Wait());
  const ModelInfo& model = engine_.model();
  const size_t row_bytes = model.head.row_bytes();
  const size_t before_bytes = item.first_position * row_bytes;
  const size_t own_bytes = item.count * row_bytes;
  std::vector<std::byte> joined(model.kv_heads * (before_bytes + own_bytes));
  for (size_t head = 0; head < model.kv_heads; ++head) {
    std::byte* out = joined.data() + head * (before_bytes + own_bytes);
    std::memcpy(out, before.data() + head * before_bytes, before_bytes);
    std::memcpy(out + before_bytes, item.rows + head * own_bytes, own_bytes);
  }
  return joined;
}

}  // namespace passband
