// Checkpoint: a tiny checkpoint made by a test, and its files.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "fmt/format.h"

namespace passband::testing_support {

// A folder that is removed with this.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "passband-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// A safetensors file: the header's length, the header, the data.
inline std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

struct FloatTensor {
  std::vector<uint64_t> shape;
  std::vector<float> values;
};
using FloatTensors = std::map<std::string, FloatTensor>;

// All tensors as F32, in name order.
inline std::string SerializeFloats(const FloatTensors& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    std::string shape;
    for (const uint64_t d : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * 4);
    header += fmt::format(",\"{}\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          name, shape, begin, data.size());
  }
  return SafetensorsBytes(header + "}", data);
}

// What a random tiny Llama looks like.
struct TinyShape {
  std::string model_type = "llama";
  uint32_t layers = 2;
  uint32_t hidden = 48;
  uint32_t inner = 40;
  uint32_t q_heads = 6;
  uint32_t kv_heads = 2;
  uint32_t head_dim = 16;
  uint32_t vocab = 31;
  bool tied = true;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  double partial_rotary = 1.0;
  std::string rope_scaling = "null";
  std::string dtype = "float32";

  std::string ConfigJson() const {
    return fmt::format(
        R"({{"model_type":"{}","num_hidden_layers":{},"hidden_size":{},"intermediate_size":{},)"
        R"("num_attention_heads":{},"num_key_value_heads":{},"head_dim":{},"vocab_size":{},)"
        R"("max_position_embeddings":512,"rms_norm_eps":1e-5,"rope_theta":1000.0,)"
        R"("hidden_act":"silu","tie_word_embeddings":{},"attention_bias":{},"mlp_bias":{},)"
        R"("partial_rotary_factor":{},"rope_scaling":{},"torch_dtype":"{}"}})",
        model_type, layers, hidden, inner, q_heads, kv_heads, head_dim, vocab, tied, output_bias,
        mlp_bias, partial_rotary, rope_scaling, dtype);
  }

  FloatTensors RandomTensors(uint64_t seed) const {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.0F, 0.25F);
    FloatTensors out;
    const auto add = [&](const std::string& name, std::vector<uint64_t> shape, float base) {
      uint64_t count = 1;
      for (const uint64_t d : shape) count *= d;
      std::vector<float> values(count);
      for (float& value : values) value = base + normal(random);
      out[name] = {std::move(shape), std::move(values)};
    };
    add("model.embed_tokens.weight", {vocab, hidden}, 0);
    add("model.norm.weight", {hidden}, 1);
    if (!tied) add("lm_head.weight", {vocab, hidden}, 0);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      const std::string p = fmt::format("model.layers.{}.", layer);
      const uint64_t queries = uint64_t{q_heads} * head_dim;
      const uint64_t keys = uint64_t{kv_heads} * head_dim;
      const auto linear = [&](const std::string& name, uint64_t outputs, uint64_t inputs,
                              bool bias) {
        add(p + name + ".weight", {outputs, inputs}, 0);
        if (bias) add(p + name + ".bias", {outputs}, 0);
      };
      add(p + "input_layernorm.weight", {hidden}, 1);
      add(p + "post_attention_layernorm.weight", {hidden}, 1);
      linear("self_attn.q_proj", queries, hidden, qkv_bias);
      linear("self_attn.k_proj", keys, hidden, qkv_bias);
      linear("self_attn.v_proj", keys, hidden, qkv_bias);
      linear("self_attn.o_proj", hidden, queries, output_bias);
      linear("mlp.gate_proj", inner, hidden, mlp_bias);
      linear("mlp.up_proj", inner, hidden, mlp_bias);
      linear("mlp.down_proj", hidden, inner, mlp_bias);
    }
    return out;
  }
};

inline void WriteCheckpoint(const std::string& folder, const TinyShape& shape,
                            const FloatTensors& tensors) {
  WriteFile(folder + "/config.json", shape.ConfigJson());
  WriteFile(folder + "/model.safetensors", SerializeFloats(tensors));
}

}  // namespace passband::testing_support
