// ReferenceLlama: the architecture written down a second time, plainly and in
// double, to hold the real forward pass to. Shares no code with it.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/llama/checkpoint.h"

namespace passband::testing_support {

class ReferenceLlama {
 public:
  using Vector = std::vector<double>;

  // `frequency` gives the RoPE angle per position of chunk i; `round` is applied
  // to every element of K (after RoPE) and V.
  ReferenceLlama(
      const TinyShape& shape, const FloatTensors& tensors,
      std::function<double(uint32_t)> frequency,
      std::function<double(double)> round = [](double x) { return x; })
      : shape_(shape),
        tensors_(tensors),
        frequency_(std::move(frequency)),
        round_(std::move(round)) {}

  // The logits of every position.
  std::vector<Vector> Logits(const std::vector<uint32_t>& tokens) const {
    std::vector<Vector> x;
    for (const uint32_t token : tokens) x.push_back(RowOf("model.embed_tokens.weight", token));
    for (uint32_t layer = 0; layer < shape_.layers; ++layer) RunLayer(layer, x);
    std::vector<Vector> out;
    const std::string head = shape_.tied ? "model.embed_tokens" : "lm_head";
    for (const Vector& row : x) out.push_back(Apply(head, Norm("model.norm.weight", row)));
    return out;
  }

 private:
  Vector RowOf(const std::string& name, uint64_t row) const {
    const FloatTensor& tensor = tensors_.at(name);
    const auto begin = tensor.values.begin() + static_cast<int64_t>(row * tensor.shape[1]);
    return {begin, begin + static_cast<int64_t>(tensor.shape[1])};
  }

  Vector Norm(const std::string& name, const Vector& x) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double rms = std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    Vector out;
    for (size_t i = 0; i < x.size(); ++i) {
      out.push_back(x[i] / rms * static_cast<double>(tensors_.at(name).values[i]));
    }
    return out;
  }

  Vector Apply(const std::string& name, const Vector& x) const {
    const FloatTensor& weight = tensors_.at(name + ".weight");
    const auto bias = tensors_.find(name + ".bias");
    Vector out;
    for (uint64_t row = 0; row < weight.shape[0]; ++row) {
      double sum = bias == tensors_.end() ? 0.0 : static_cast<double>(bias->second.values[row]);
      const Vector w = RowOf(name + ".weight", row);
      for (size_t i = 0; i < x.size(); ++i) sum += w[i] * x[i];
      out.push_back(sum);
    }
    return out;
  }

  // One head of `x`, rotated by its position.
  Vector Rotated(const Vector& x, uint32_t head, size_t position) const {
    const auto begin = x.begin() + head * shape_.head_dim;
    Vector out(begin, begin + shape_.head_dim);
    const auto rotary = static_cast<uint32_t>(shape_.partial_rotary * shape_.head_dim);
    for (uint32_t i = 0; i < rotary / 2; ++i) {
      const double angle = static_cast<double>(position) * frequency_(i);
      const double a = begin[i];
      const double b = begin[i + rotary / 2];
      out[i] = a * std::cos(angle) - b * std::sin(angle);
      out[i + rotary / 2] = b * std::cos(angle) + a * std::sin(angle);
    }
    return out;
  }

  // Attention of query head `head` at the last of the given positions.
  Vector Attend(const Vector& query, const std::vector<Vector>& keys,
                const std::vector<Vector>& values) const {
    Vector scores;
    double total = 0;
    for (const Vector& key : keys) {
      double dot = 0;
      for (size_t i = 0; i < query.size(); ++i) dot += query[i] * key[i];
      scores.push_back(std::exp(dot / std::sqrt(static_cast<double>(shape_.head_dim))));
      total += scores.back();
    }
    Vector out(query.size(), 0.0);
    for (size_t t = 0; t < keys.size(); ++t) {
      for (size_t i = 0; i < out.size(); ++i) out[i] += scores[t] / total * values[t][i];
    }
    return out;
  }

  void RunLayer(uint32_t layer, std::vector<Vector>& x) const {
    const std::string p = fmt::format("model.layers.{}.", layer);
    std::vector<std::vector<Vector>> keys(shape_.kv_heads);
    std::vector<std::vector<Vector>> values(shape_.kv_heads);
    for (size_t position = 0; position < x.size(); ++position) {
      const Vector h = Norm(p + "input_layernorm.weight", x[position]);
      const Vector q = Apply(p + "self_attn.q_proj", h);
      const Vector k = Apply(p + "self_attn.k_proj", h);
      const Vector v = Apply(p + "self_attn.v_proj", h);
      for (uint32_t head = 0; head < shape_.kv_heads; ++head) {
        Vector key = Rotated(k, head, position);
        Vector value(v.begin() + head * shape_.head_dim, v.begin() + (head + 1) * shape_.head_dim);
        for (double& element : key) element = round_(element);
        for (double& element : value) element = round_(element);
        keys[head].push_back(key);
        values[head].push_back(value);
      }
      Vector attended;
      for (uint32_t head = 0; head < shape_.q_heads; ++head) {
        const uint32_t kv = head / (shape_.q_heads / shape_.kv_heads);
        const Vector out = Attend(Rotated(q, head, position), keys[kv], values[kv]);
        attended.insert(attended.end(), out.begin(), out.end());
      }
      const Vector update = Apply(p + "self_attn.o_proj", attended);
      for (size_t i = 0; i < update.size(); ++i) x[position][i] += update[i];
      AddMlp(p, x[position]);
    }
  }

  void AddMlp(const std::string& p, Vector& x) const {
    const Vector h = Norm(p + "post_attention_layernorm.weight", x);
    const Vector gate = Apply(p + "mlp.gate_proj", h);
    const Vector up = Apply(p + "mlp.up_proj", h);
    Vector inner;
    for (size_t i = 0; i < gate.size(); ++i) {
      inner.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
    }
    const Vector update = Apply(p + "mlp.down_proj", inner);
    for (size_t i = 0; i < update.size(); ++i) x[i] += update[i];
  }

  TinyShape shape_;
  const FloatTensors& tensors_;
  std::function<double(uint32_t)> frequency_;
  std::function<double(double)> round_;
};

}  // namespace passband::testing_support
