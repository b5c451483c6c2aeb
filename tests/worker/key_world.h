// KeyWorld: random keys and queries of one layer, as selectors and probe see
// them, and the truth about them in double precision.
//
// Threads  one at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "kernels/dtype.h"
#include "services/worker/eval/exact_keys.h"

namespace passband::testing {

class KeyWorld {
 public:
  // `before` tokens are the prompt's, `count` come after it.
  KeyWorld(uint64_t seed, uint64_t before, uint32_t count) : random_(seed) {
    model.layers = 1;
    model.query_heads = 6;
    model.kv_heads = 2;
    model.head.head_dim = 32;
    model.head.rotary_dim = 32;
    const uint64_t tokens = before + count;
    for (uint32_t head = 0; head < model.kv_heads; ++head) {
      rows_.push_back(RandomRows(tokens));
    }
    prompt = std::make_unique<PromptKeys>(model);
    std::vector<const std::byte*> heads;
    for (const auto& rows : rows_) heads.push_back(rows.data());
    prompt->OnLayer(0, before, heads);
    keys = std::make_unique<LayerKeys>(model, kScale);
    keys->Begin(0, *prompt, NewRows(before, count).data(), count);
  }

  // [group][head_dim]
  std::vector<float> Queries() {
    std::vector<float> queries(size_t{model.group()} * model.head.head_dim);
    for (float& value : queries) value = 2 * normal_(random_);
    return queries;
  }

  float Key(uint32_t kv_head, uint64_t token, uint32_t dim) const {
    float value = 0;
    kernels::DTypeToFloat(rows_[kv_head].data() + token * model.head.row_bytes() + dim * 2, 1,
                          model.head.dtype, &value);
    return value;
  }

  // The softmax weights of query head `head` of the group over [0, context).
  std::vector<double> Weights(uint32_t kv_head, uint64_t context, const std::vector<float>& queries,
                              uint32_t head) const {
    std::vector<double> weights(context);
    double top = -1e300, sum = 0;
    for (uint64_t t = 0; t < context; ++t) {
      for (uint32_t d = 0; d < model.head.head_dim; ++d) {
        weights[t] += double{queries[head * model.head.head_dim + d]} * double{Key(kv_head, t, d)};
      }
      weights[t] *= double{kScale};
      top = std::max(top, weights[t]);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - top);
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  std::vector<double> GroupWeights(uint32_t kv_head, uint64_t context,
                                   const std::vector<float>& queries) const {
    std::vector<double> mean(context);
    for (uint32_t head = 0; head < model.group(); ++head) {
      const auto weights = Weights(kv_head, context, queries, head);
      for (uint64_t t = 0; t < context; ++t) mean[t] += weights[t] / model.group();
    }
    return mean;
  }

  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

  static constexpr float kScale = 0.25F;

  ModelInfo model;
  std::unique_ptr<PromptKeys> prompt;
  std::unique_ptr<LayerKeys> keys;

 private:
  std::vector<std::byte> RandomRows(uint64_t tokens) {
    std::vector<float> values(tokens * model.head.head_dim * 2);
    for (float& value : values) value = normal_(random_);
    std::vector<std::byte> rows(values.size() * 2);
    kernels::FloatToDType(values.data(), values.size(), model.head.dtype, rows.data());
    return rows;
  }

  // [kv_head][count][row_bytes]
  std::vector<std::byte> NewRows(uint64_t first, uint32_t count) const {
    std::vector<std::byte> out;
    const auto bytes = static_cast<ptrdiff_t>(model.head.row_bytes());
    for (const auto& rows : rows_) {
      const auto from = rows.begin() + static_cast<ptrdiff_t>(first) * bytes;
      out.insert(out.end(), from, from + count * bytes);
    }
    return out;
  }

  std::mt19937_64 random_;
  std::normal_distribution<float> normal_;
  std::vector<std::vector<std::byte>> rows_;  // [kv_head]
};

inline uint64_t FreshSeed() { return std::random_device()(); }

}  // namespace passband::testing
