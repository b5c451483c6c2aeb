#include "sdk/sequence_state.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace passband {
namespace {

constexpr uint64_t kBlockTokens = TailBuffer::kBlockTokens;

SequenceState::Layer MakeLayer(const SequenceConfig& config, uint32_t layer, uint64_t tokens) {
  const ModelInfo& model = config.model;
  const size_t row_bytes = model.head.row_bytes();
  SequenceState::Layer out{
      .sent = tokens,
      .stored = tokens,
      .tail = TailBuffer(model.kv_heads, row_bytes, config.recent, tokens),
      .slab = std::make_unique<RowSlab>(model.kv_heads, config.hot_rows, row_bytes),
      .heads = {}};
  out.heads.reserve(model.kv_heads);
  for (uint32_t head = 0; head < model.kv_heads; ++head) {
    out.heads.push_back({.cache = RowCache(out.slab.get(), head), .slices = std::nullopt});
    if (config.profile) out.heads.back().slices.emplace(config.profile->spec(layer, head));
  }
  return out;
}

}  // namespace

SequenceState::SequenceState(std::shared_ptr<const SequenceConfig> config, SequenceId id,
                             uint64_t tokens, uint64_t known)
    : config_(std::move(config)), id_(id), attached_tokens_(tokens), known_tokens_(known) {
  layers_.reserve(config_->model.layers);
  for (uint32_t layer = 0; layer < config_->model.layers; ++layer) {
    layers_.push_back(MakeLayer(*config_, layer, tokens));
  }
}

void SequenceState::CopySlices(const SequenceState& from) {
  if (!config_->profile) return;
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (size_t head = 0; head < layers_[i].heads.size(); ++head) {
      std::optional<kernels::SliceIndex>& slices = layers_[i].heads[head].slices;
      slices = from.layers_[i].heads[head].slices;
      slices->Truncate(layers_[i].length());
    }
  }
}

bool SequenceState::EnterStep(uint64_t step) { return std::exchange(step_, step) != step; }

void SequenceState::Append(uint32_t layer, const std::byte* rows, size_t head_stride,
                           uint32_t count) {
  Layer& state = layers_[layer];
  PASSBAND_CHECK(state.tail.BeginFor(state.length() + count) <= state.sent);
  state.tail.Append(rows, head_stride, count);
  for (Head& head : state.heads) {
    if (!head.slices) continue;
    head.slices->AppendKeys(rows, config_->model.head.row_bytes(), count);
    rows += head_stride;
  }
}

Status SequenceState::SendCompleteBlocks(uint32_t layer) {
  const uint64_t complete = layers_[layer].length() / kBlockTokens * kBlockTokens;
  return SendUntil(layer, complete);
}

Status SequenceState::SendUntil(uint32_t layer, uint64_t tokens) {
  Layer& state = layers_[layer];
  while (state.sent < tokens) {
    const auto count = static_cast<uint32_t>(
        std::min(kBlockTokens - state.sent % kBlockTokens, tokens - state.sent));
    PASSBAND_RETURN_IF_ERROR(
        config_->service->Append({.sequence = id_,
                                  .layer = layer,
                                  .first_token = state.sent,
                                  .count = count,
                                  .rows = state.tail.Rows(state.sent, count, send_scratch_)}));
    state.sent += count;
  }
  return OkStatus();
}

Status SequenceState::WaitStored() {
  PASSBAND_RETURN_IF_ERROR(config_->service->Flush(id_));
  for (Layer& layer : layers_) layer.stored = layer.sent;
  return OkStatus();
}

Status SequenceState::Flush() {
  for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
    PASSBAND_RETURN_IF_ERROR(SendUntil(layer, layers_[layer].length()));
  }
  return WaitStored();
}

Status SequenceState::EnsureStored(uint32_t layer, uint64_t tokens) {
  if (tokens <= layers_[layer].stored) return OkStatus();
  PASSBAND_CHECK(tokens <= layers_[layer].sent);
  return WaitStored();
}

void SequenceState::TruncateLayer(Layer& layer, uint64_t tokens) {
  if (tokens >= layer.length()) return;
  // The tail stands at the layer's length even when it holds none of it.
  layer.tail.Truncate(tokens);
  layer.sent = std::min(layer.sent, tokens);
  layer.stored = std::min(layer.stored, tokens);
  for (Head& head : layer.heads) {
    head.cache.Truncate(tokens);
    if (head.slices) head.slices->Truncate(tokens);
  }
}

void SequenceState::TakeBack(uint32_t layer, uint64_t tokens) {
  PASSBAND_CHECK(layers_[layer].sent <= tokens);
  TruncateLayer(layers_[layer], tokens);
}

Status SequenceState::Truncate(uint64_t tokens) {
  const bool service_has_more =
      known_tokens_ > tokens ||
      std::any_of(layers_.begin(), layers_.end(), [&](const Layer& l) { return l.sent > tokens; });
  if (service_has_more) {
    // Every layer is brought up to the cut first: the service cuts a sequence,
    // not a layer, and only what has arrived.
    for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
      PASSBAND_RETURN_IF_ERROR(SendUntil(layer, std::min(tokens, layers_[layer].length())));
    }
    PASSBAND_RETURN_IF_ERROR(WaitStored());
    PASSBAND_RETURN_IF_ERROR(config_->service->Truncate(id_, tokens));
    known_tokens_ = std::min(known_tokens_, tokens);
  }
  for (Layer& layer : layers_) TruncateLayer(layer, tokens);
  return OkStatus();
}

Status SequenceState::ExtendTokenIds(uint64_t first, std::span<const uint32_t> token_ids) {
  PASSBAND_RETURN_IF_ERROR(config_->service->Extend(id_, first, token_ids));
  known_tokens_ = std::max(known_tokens_, first + token_ids.size());
  return OkStatus();
}

Status SequenceState::Seal() {
  if (sealed_) return OkStatus();
  PASSBAND_RETURN_IF_ERROR(Flush());
  PASSBAND_RETURN_IF_ERROR(config_->service->Seal(id_));
  sealed_ = true;
  return OkStatus();
}

void SequenceState::Close() {
  if (sealed_ || detached_) return;
  const Status closed = config_->service->Close(id_);
  if (!closed.ok()) log::Warn("sequence_close_failed", {{"sequence", id_}, {"why", closed}});
}

}  // namespace passband
