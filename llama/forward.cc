#include "llama/forward.h"

#include <algorithm>

#include "kernels/dtype.h"

namespace passband {
namespace {

constexpr size_t kBlockRows = 128;

Status CheckItem(const LlamaConfig& config, const BatchItem& item) {
  const uint64_t count = item.token_ids.size();
  if (count == 0) {
    return Error(StatusCode::kInvalidArgument, "handle {}: no tokens", item.handle);
  }
  if (count > config.max_positions || item.first_position > config.max_positions - count) {
    return Error(StatusCode::kInvalidArgument,
                 "handle {}: positions {} + {} are past the model's {} positions", item.handle,
                 item.first_position, count, config.max_positions);
  }
  if (item.logits > count) {
    return Error(StatusCode::kInvalidArgument, "handle {}: logits of {} positions out of {}",
                 item.handle, item.logits, count);
  }
  for (const uint32_t token : item.token_ids) {
    if (token >= config.vocab_size) {
      return Error(StatusCode::kInvalidArgument,
                   "handle {}: token id {} is outside the vocabulary of {}", item.handle, token,
                   config.vocab_size);
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckBatch(const LlamaConfig& config, std::span<const BatchItem> batch) {
  if (batch.empty()) return Error(StatusCode::kInvalidArgument, "the batch is empty");
  for (const BatchItem& item : batch) PASSBAND_RETURN_IF_ERROR(CheckItem(config, item));
  return OkStatus();
}

ForwardPass::ForwardPass(const LlamaConfig& config, const LlamaWeights& weights,
                         std::span<const BatchItem> batch, WorkerPool& pool)
    : config_(config),
      weights_(weights),
      batch_(batch),
      pool_(pool),
      query_width_(size_t{config.q_heads} * config.head_dim) {
  const size_t width = config.hidden_size;
  const std::vector<float> frequencies = RopeFrequencies(config.rope);
  for (size_t i = 0; i < batch.size(); ++i) {
    first_row_.push_back(positions_);
    positions_ += batch[i].token_ids.size();
    for (size_t j = 0; j < batch[i].token_ids.size(); ++j) {
      const float* embedding = weights.embedding.weight.data() + batch[i].token_ids[j] * width;
      hidden_.insert(hidden_.end(), embedding, embedding + width);
      angles_.push_back(AnglesAt(frequencies, batch[i].first_position + j));
      item_of_row_.push_back(i);
    }
  }
  queries_.resize(positions_ * query_width_);
  attended_.resize(positions_ * query_width_);
  rows_.resize(positions_ * config.layer_row_bytes());
  for (size_t i = 0; i < batch.size(); ++i) {
    items_.push_back({.handle = batch[i].handle,
                      .first_position = batch[i].first_position,
                      .count = static_cast<uint32_t>(batch[i].token_ids.size()),
                      .queries = queries_.data() + first_row_[i] * query_width_,
                      .rows = rows_.data() + first_row_[i] * config.layer_row_bytes(),
                      .out = attended_.data() + first_row_[i] * query_width_});
  }
}

void ForwardPass::ForEachBlock(const std::function<void(const Block&)>& work) {
  const size_t blocks = (positions_ + kBlockRows - 1) / kBlockRows;
  if (blocks == 1) {
    work({.first = 0, .count = positions_, .pool = &pool_});
    return;
  }
  pool_.Run(blocks, [&](size_t i) {
    const size_t first = i * kBlockRows;
    work({.first = first, .count = std::min(kBlockRows, positions_ - first), .pool = nullptr});
  });
}

void ForwardPass::ProjectLayer(uint32_t layer) {
  ForEachBlock([&](const Block& block) { ProjectBlock(weights_.layers[layer], block); });
}

void ForwardPass::FinishLayer(uint32_t layer) {
  ForEachBlock([&](const Block& block) { FinishBlock(weights_.layers[layer], block); });
}

std::byte* ForwardPass::RowOf(size_t row, size_t head) {
  const size_t item = item_of_row_[row];
  const size_t index = row - first_row_[item];
  const size_t count = batch_[item].token_ids.size();
  return rows_.data() + first_row_[item] * config_.layer_row_bytes() +
         (head * count + index) * config_.head_shape().row_bytes();
}

void ForwardPass::ProjectBlock(const LayerWeights& layer, const Block& block) {
  const size_t width = config_.hidden_size;
  const size_t head_dim = config_.head_dim;
  std::vector<float> normed(block.count * width);
  std::vector<float> qkv(block.count * layer.qkv.outputs);
  RmsNorm(layer.attention_norm, config_.rms_norm_eps, hidden_.data() + block.first * width,
          block.count, normed.data());
  Multiply(layer.qkv, normed.data(), block.count, qkv.data(), block.pool);
  for (size_t i = 0; i < block.count; ++i) {
    const size_t row = block.first + i;
    float* queries = qkv.data() + i * layer.qkv.outputs;
    float* keys = queries + query_width_;
    const float* values = keys + config_.kv_heads * head_dim;
    Rotate(angles_[row], config_.q_heads, head_dim, queries);
    Rotate(angles_[row], config_.kv_heads, head_dim, keys);
    std::copy_n(queries, query_width_, queries_.data() + row * query_width_);
    for (size_t head = 0; head < config_.kv_heads; ++head) {
      std::byte* out = RowOf(row, head);
      kernels::FloatToDType(keys + head * head_dim, head_dim, config_.kv_dtype, out);
      kernels::FloatToDType(values + head * head_dim, head_dim, config_.kv_dtype,
                            out + config_.head_shape().key_bytes());
    }
  }
}

void ForwardPass::FinishBlock(const LayerWeights& layer, const Block& block) {
  const size_t width = config_.hidden_size;
  const size_t inner = config_.intermediate_size;
  float* hidden = hidden_.data() + block.first * width;
  std::vector<float> update(block.count * width);
  Multiply(layer.output, attended_.data() + block.first * query_width_, block.count, update.data(),
           block.pool);
  AddTo(update.data(), update.size(), hidden);

  std::vector<float> normed(block.count * width);
  std::vector<float> gate_up(block.count * 2 * inner);
  std::vector<float> activated(block.count * inner);
  RmsNorm(layer.mlp_norm, config_.rms_norm_eps, hidden, block.count, normed.data());
  Multiply(layer.gate_up, normed.data(), block.count, gate_up.data(), block.pool);
  SiluTimesUp(gate_up.data(), block.count, inner, activated.data());
  Multiply(layer.down, activated.data(), block.count, update.data(), block.pool);
  AddTo(update.data(), update.size(), hidden);
}

Logits ForwardPass::Head() {
  const size_t width = config_.hidden_size;
  std::vector<float> wanted;
  for (size_t i = 0; i < batch_.size(); ++i) {
    const size_t end = first_row_[i] + batch_[i].token_ids.size();
    const float* from = hidden_.data() + (end - batch_[i].logits) * width;
    wanted.insert(wanted.end(), from, from + batch_[i].logits * width);
  }
  const size_t rows = wanted.size() / width;
  std::vector<float> normed(wanted.size());
  RmsNorm(weights_.norm, config_.rms_norm_eps, wanted.data(), rows, normed.data());
  Logits out;
  out.vocab_size = config_.vocab_size;
  out.values.resize(rows * config_.vocab_size);
  Multiply(weights_.output_head(), normed.data(), rows, out.values.data(), &pool_);
  return out;
}

}  // namespace passband
