#include "sdk/full_step.h"

#include <algorithm>

#include "kernels/fac.h"
#include "sdk/lap_timer.h"
#include "sdk/step_append.h"

namespace passband {

FullStep::FullStep(KvService* service, const ModelInfo& model, float scale)
    : service_(service), model_(model), scale_(scale), row_bytes_(model.head.row_bytes()) {}

Status FullStep::Run(uint32_t layer, std::span<const StepItem> items,
                     std::span<SequenceState* const> sequences, EngineStats& stats) {
  StepAppend append(layer, sequences);
  PASSBAND_RETURN_IF_ERROR(append.SendCompleteBlocks());
  for (size_t i = 0; i < items.size(); ++i) {
    append.Append(items[i].new_rows);
    PASSBAND_RETURN_IF_ERROR(
        sequences[i]->EnsureStored(layer, sequences[i]->layer(layer).tail.begin()));
  }

  const size_t out_size = size_t{model_.query_heads} * model_.head.head_dim;
  outs_.resize(items.size() * out_size);
  EngineStats step;
  // One sequence's rows are read while those of the one before are used.
  std::unique_ptr<PendingRows> next = StartRead(layer, *sequences[0]);
  for (size_t i = 0; i < items.size(); ++i) {
    const std::unique_ptr<PendingRows> current = std::move(next);
    if (i + 1 < items.size()) next = StartRead(layer, *sequences[i + 1]);
    PASSBAND_RETURN_IF_ERROR(Attend(items[i], sequences[i]->layer(layer), current.get(),
                                    outs_.data() + i * out_size, step));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    std::copy_n(outs_.data() + i * out_size, out_size, items[i].out);
  }
  append.Keep();

  stats.steps += items.size();
  stats.selected_rows += step.fetched_rows;
  stats.tail_rows += step.tail_rows;
  stats.fetched_rows += step.fetched_rows;
  stats.fetched_bytes += step.fetched_rows * row_bytes_;
  stats.full_attention_bytes += (step.fetched_rows + step.tail_rows) * row_bytes_;
  stats.fetch_seconds += step.fetch_seconds;
  stats.fac_seconds += step.fac_seconds;
  return OkStatus();
}

std::unique_ptr<PendingRows> FullStep::StartRead(uint32_t layer, const SequenceState& sequence) {
  const uint64_t count = sequence.layer(layer).tail.begin();
  if (count == 0) return nullptr;
  return service_->StartRead(
      {.sequence = sequence.id(), .layer = layer, .first_token = 0, .count = count});
}

Status FullStep::Attend(const StepItem& item, const SequenceState::Layer& layer,
                        PendingRows* pending, float* out, EngineStats& stats) {
  LapTimer timer;
  const TailBuffer& tail = layer.tail;
  std::span<const std::byte> read;
  if (pending != nullptr) {
    PASSBAND_ASSIGN_OR_RETURN(read, pending->Wait());
  }
  if (read.size() != tail.begin() * model_.kv_heads * row_bytes_) {
    return Error(StatusCode::kInternal, "read {} bytes where {} tokens were asked for", read.size(),
                 tail.begin());
  }
  stats.fetch_seconds += timer.Lap();
  rows_.resize(tail.end());
  for (uint32_t head = 0; head < model_.kv_heads; ++head) {
    const std::byte* head_rows = read.data() + head * tail.begin() * row_bytes_;
    for (uint64_t i = 0; i < tail.begin(); ++i) rows_[i] = head_rows + i * row_bytes_;
    for (uint64_t i = tail.begin(); i < tail.end(); ++i) rows_[i] = tail.row(head, i);
    const size_t query_offset = size_t{head} * model_.group() * model_.head.head_dim;
    kernels::Fac({.shape = model_.head,
                  .group = static_cast<int>(model_.group()),
                  .scale = scale_,
                  .queries = item.queries + query_offset,
                  .out = out + query_offset},
                 rows_);
  }
  stats.fetched_rows += tail.begin() * model_.kv_heads;
  stats.tail_rows += (tail.end() - tail.begin()) * model_.kv_heads;
  stats.fac_seconds += timer.Lap();
  return OkStatus();
}

}  // namespace passband
