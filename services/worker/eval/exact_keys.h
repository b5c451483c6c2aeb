// Exact keys in the worker: for evaluation only.
//
// Comparing selections needs the truth, so the evaluator keeps what a worker in
// production never holds: a document's keys (PromptKeys), and those of the layer
// at hand as floats (LayerKeys).
//
// Units      tokens.
// Threads    PromptKeys: const after the prompt; LayerKeys: one at a time.
// Ownership  both own copies.
// Errors     none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "services/worker/engine_attention.h"

namespace passband {

// Collects the keys of a document while its prompt is computed.
class PromptKeys final : public PromptObserver {
 public:
  explicit PromptKeys(const ModelInfo& model);

  void OnLayer(uint32_t layer, uint64_t tokens,
               std::span<const std::byte* const> head_rows) override;

  // [tokens][head_dim] as stored.
  std::span<const std::byte> keys(uint32_t layer, uint32_t kv_head) const {
    return keys_[layer * kv_heads_ + kv_head];
  }

 private:
  const kernels::HeadShape shape_;
  const uint32_t kv_heads_;
  std::vector<std::vector<std::byte>> keys_;  // [layer * kv_heads + kv_head]
};

// Every key of one layer: the prompt's, then `count` new tokens'.
class LayerKeys {
 public:
  LayerKeys(const ModelInfo& model, float scale);

  // rows: [kv_head][count][row_bytes].
  void Begin(uint32_t layer, const PromptKeys& prompt, const std::byte* rows, uint32_t count);

  uint32_t layer() const { return layer_; }
  uint64_t tokens() const { return tokens_; }
  const ModelInfo& model() const { return model_; }
  float scale() const { return scale_; }
  // [tokens][head_dim].
  const float* keys(uint32_t kv_head) const;
  const std::byte* stored(uint32_t kv_head) const;

  // logits: [heads][context], scale * q . K, for any queries [heads][head_dim].
  void Logits(uint32_t kv_head, uint64_t context, const float* queries, uint32_t heads,
              float* logits) const;

 private:
  const ModelInfo model_;
  const float scale_;
  uint32_t layer_ = 0;
  uint64_t tokens_ = 0;
  std::vector<std::byte> stored_;
  std::vector<float> keys_;
};

// Softmax of each of `heads` rows of [heads][count], in place.
void SoftmaxRows(float* logits, uint32_t heads, uint64_t count);
// mean[i] = mean over rows of values[row][i].
void MeanOfRows(const float* values, uint32_t rows, uint64_t count, float* mean);

}  // namespace passband
