#include "services/worker/eval/exact_keys.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/dtype.h"

namespace passband {

PromptKeys::PromptKeys(const ModelInfo& model)
    : shape_(model.head), kv_heads_(model.kv_heads), keys_(size_t{model.layers} * model.kv_heads) {}

void PromptKeys::OnLayer(uint32_t layer, uint64_t tokens,
                         std::span<const std::byte* const> head_rows) {
  const size_t key_bytes = shape_.key_bytes();
  for (uint32_t head = 0; head < kv_heads_; ++head) {
    std::vector<std::byte>& keys = keys_[layer * kv_heads_ + head];
    keys.resize(tokens * key_bytes);
    for (uint64_t token = 0; token < tokens; ++token) {
      std::memcpy(keys.data() + token * key_bytes, head_rows[head] + token * shape_.row_bytes(),
                  key_bytes);
    }
  }
}

LayerKeys::LayerKeys(const ModelInfo& model, float scale) : model_(model), scale_(scale) {}

void LayerKeys::Begin(uint32_t layer, const PromptKeys& prompt, const std::byte* rows,
                      uint32_t count) {
  const size_t key_bytes = model_.head.key_bytes();
  const size_t row_bytes = model_.head.row_bytes();
  const uint64_t before = prompt.keys(layer, 0).size() / key_bytes;
  layer_ = layer;
  tokens_ = before + count;
  stored_.resize(model_.kv_heads * tokens_ * key_bytes);
  std::byte* out = stored_.data();
  for (uint32_t head = 0; head < model_.kv_heads; ++head) {
    const auto keys = prompt.keys(layer, head);
    out = std::copy(keys.begin(), keys.end(), out);
    for (uint32_t i = 0; i < count; ++i, out += key_bytes) {
      std::memcpy(out, rows + (size_t{head} * count + i) * row_bytes, key_bytes);
    }
  }
  keys_.resize(model_.kv_heads * tokens_ * model_.head.head_dim);
  kernels::DTypeToFloat(stored_.data(), keys_.size(), model_.head.dtype, keys_.data());
}

const float* LayerKeys::keys(uint32_t kv_head) const {
  return keys_.data() + kv_head * tokens_ * model_.head.head_dim;
}

const std::byte* LayerKeys::stored(uint32_t kv_head) const {
  return stored_.data() + kv_head * tokens_ * model_.head.key_bytes();
}

void LayerKeys::Logits(uint32_t kv_head, uint64_t context, const float* queries, uint32_t heads,
                       float* logits) const {
  const int dim = model_.head.head_dim;
  const int columns = static_cast<int>(context);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(heads), columns, dim,
              scale_, queries, dim, keys(kv_head), dim, 0.0F, logits, columns);
}

void SoftmaxRows(float* logits, uint32_t heads, uint64_t count) {
  for (uint32_t head = 0; head < heads; ++head) {
    float* row = logits + head * count;
    const float top = *std::max_element(row, row + count);
    double sum = 0;
    for (uint64_t i = 0; i < count; ++i) {
      row[i] = std::exp(row[i] - top);
      sum += row[i];
    }
    const auto inverse = static_cast<float>(1.0 / sum);
    for (uint64_t i = 0; i < count; ++i) row[i] *= inverse;
  }
}

void MeanOfRows(const float* values, uint32_t rows, uint64_t count, float* mean) {
  const float share = 1.0F / static_cast<float>(rows);
  for (uint64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (uint32_t row = 0; row < rows; ++row) sum += values[row * count + i];
    mean[i] = sum * share;
  }
}

}  // namespace passband
