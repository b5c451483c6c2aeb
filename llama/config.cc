#include "llama/config.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace passband {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;

// Reads members of one JSON object; remembers the first thing that is wrong.
class Fields {
 public:
  Fields(const Json& object, std::string source) : object_(object), source_(std::move(source)) {}

  bool Has(const char* name) const { return object_.contains(name) && !object_[name].is_null(); }
  const Json& object() const { return object_; }
  const std::string& source() const { return source_; }
  const Status& status() const { return status_; }

  // `fallback` when the member is absent or null.
  uint32_t Count(const char* name, uint32_t fallback, uint32_t most) {
    if (!Has(name)) return fallback;
    const Json& value = object_[name];
    const bool good =
        value.is_number_unsigned() && value.get<uint64_t>() >= 1 && value.get<uint64_t>() <= most;
    if (!good) {
      Fail(StatusCode::kInvalidArgument,
           fmt::format("{} must be a whole number from 1 to {}", name, most));
      return fallback;
    }
    return value.get<uint32_t>();
  }

  uint32_t RequiredCount(const char* name, uint32_t most) {
    if (!Has(name)) Fail(StatusCode::kInvalidArgument, fmt::format("{} is missing", name));
    return Count(name, 1, most);
  }

  double Positive(const char* name, double fallback) {
    if (!Has(name)) return fallback;
    const Json& value = object_[name];
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() <= 0) {
      Fail(StatusCode::kInvalidArgument, fmt::format("{} must be a positive number", name));
      return fallback;
    }
    return value.get<double>();
  }

  bool Flag(const char* name, bool fallback) {
    if (!Has(name)) return fallback;
    if (!object_[name].is_boolean()) {
      Fail(StatusCode::kInvalidArgument, fmt::format("{} must be true or false", name));
      return fallback;
    }
    return object_[name].get<bool>();
  }

  std::string Text(const char* name, const std::string& fallback) {
    if (!Has(name)) return fallback;
    if (!object_[name].is_string()) {
      Fail(StatusCode::kInvalidArgument, fmt::format("{} must be text", name));
      return fallback;
    }
    return object_[name].get<std::string>();
  }

  void Fail(StatusCode code, const std::string& what) {
    if (status_.ok()) status_ = Error(code, "{}: {}", source_, what);
  }
  void Require(bool condition, StatusCode code, const std::string& what) {
    if (!condition) Fail(code, what);
  }

 private:
  const Json& object_;
  std::string source_;
  Status status_;
};

// Features that change the arithmetic and that the forward pass does not have.
void RefuseUnsupported(Fields& fields, const std::string& model_type) {
  const auto require = [&](bool condition, const std::string& what) {
    fields.Require(condition, StatusCode::kUnimplemented, what);
  };
  require(model_type == "llama" || model_type == "mistral" || model_type == "qwen2",
          fmt::format("model_type '{}' is not supported (llama, mistral, qwen2 are)", model_type));
  require(fields.Text("hidden_act", "silu") == "silu", "only hidden_act 'silu' is supported");
  require(!fields.Has("quantization_config"),
          "quantized checkpoints are not supported; use a bf16, f16 or f32 one");
  // Qwen2 names a window that it then does not use.
  const bool window_used = fields.Flag("use_sliding_window", model_type != "qwen2");
  require(!fields.Has("sliding_window") || !window_used,
          "sliding_window attention is not supported: every token must see the whole context");
}

void ReadRopeScaling(Fields& fields, const Json& scaling, RopeConfig& rope) {
  Fields inner(scaling, fields.source());
  const std::string type = inner.Text("rope_type", inner.Text("type", "default"));
  if (type == "default") return;
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
    rope.factor = inner.Positive("factor", 1.0);
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::kLlama3;
    rope.factor = inner.Positive("factor", 8.0);
    rope.low_freq_factor = inner.Positive("low_freq_factor", 1.0);
    rope.high_freq_factor = inner.Positive("high_freq_factor", 4.0);
    rope.original_positions = inner.Positive("original_max_position_embeddings", 8192);
    inner.Require(rope.high_freq_factor > rope.low_freq_factor, StatusCode::kInvalidArgument,
                  "rope scaling: high_freq_factor must be above low_freq_factor");
  } else {
    inner.Fail(StatusCode::kUnimplemented,
               fmt::format("rope scaling '{}' is not supported (linear, llama3 are)", type));
  }
  if (!inner.status().ok())
    fields.Fail(inner.status().code(), "in rope scaling: " + Message(inner.status()));
}

RopeConfig ReadRope(Fields& fields, uint32_t head_dim) {
  RopeConfig rope;
  rope.theta = fields.Positive("rope_theta", 10000.0);
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (!fields.Has(name)) continue;
    const Json& object = fields.object()[name];
    if (!object.is_object()) {
      fields.Fail(StatusCode::kInvalidArgument, fmt::format("{} must be an object", name));
      continue;
    }
    Fields inner(object, fields.source());
    rope.theta = inner.Positive("rope_theta", rope.theta);
    if (!inner.status().ok()) fields.Fail(inner.status().code(), "bad rope_theta");
    ReadRopeScaling(fields, object, rope);
  }
  const double part = fields.Positive("partial_rotary_factor", 1.0);
  rope.rotary_dim = static_cast<uint32_t>(part * head_dim);
  fields.Require(part <= 1.0 && rope.rotary_dim >= 2 && rope.rotary_dim % 2 == 0,
                 StatusCode::kInvalidArgument,
                 "partial_rotary_factor must leave an even number of rotated dimensions");
  return rope;
}

kernels::DType ReadKvDType(Fields& fields) {
  const std::string name = fields.Text("torch_dtype", fields.Text("dtype", "bfloat16"));
  if (name == "bfloat16") return kernels::DType::kBf16;
  if (name == "float16") return kernels::DType::kF16;
  if (name == "float32") return kernels::DType::kF32;
  fields.Fail(
      StatusCode::kUnimplemented,
      fmt::format("torch_dtype '{}' is not supported (bfloat16, float16, float32 are)", name));
  return kernels::DType::kBf16;
}

void CheckShape(Fields& fields, const LlamaConfig& config) {
  const auto require = [&](bool condition, StatusCode code, const std::string& what) {
    fields.Require(condition, code, what);
  };
  require(config.q_heads % config.kv_heads == 0, StatusCode::kInvalidArgument,
          fmt::format("{} query heads cannot share {} kv heads evenly", config.q_heads,
                      config.kv_heads));
  require(config.group() <= kernels::kMaxGroup, StatusCode::kUnimplemented,
          fmt::format("more than {} query heads share a kv head", kernels::kMaxGroup));
  require(config.head_dim % 8 == 0 && config.head_dim <= kernels::kMaxHeadDim,
          StatusCode::kUnimplemented,
          fmt::format("head_dim {} is not a multiple of 8 up to {}", config.head_dim,
                      kernels::kMaxHeadDim));
}

}  // namespace

kernels::HeadShape LlamaConfig::head_shape() const {
  return {.head_dim = static_cast<uint16_t>(head_dim),
          .rotary_dim = static_cast<uint16_t>(rope.rotary_dim),
          .layout = kernels::RopeLayout::kHalf,
          .dtype = kv_dtype};
}

float LlamaConfig::attention_scale() const {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

StatusOr<LlamaConfig> ParseLlamaConfig(const std::string& json_text, const std::string& source) {
  const Json json = Json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return Error(StatusCode::kInvalidArgument, "{}: not a JSON object", source);
  }
  Fields fields(json, source);
  LlamaConfig config;
  config.model_type = fields.Text("model_type", "");
  RefuseUnsupported(fields, config.model_type);
  config.layers = fields.RequiredCount("num_hidden_layers", 1024);
  config.hidden_size = fields.RequiredCount("hidden_size", 1 << 17);
  config.intermediate_size = fields.RequiredCount("intermediate_size", 1 << 20);
  config.q_heads = fields.RequiredCount("num_attention_heads", 1024);
  config.kv_heads = fields.Count("num_key_value_heads", config.q_heads, 1024);
  fields.Require(fields.Has("head_dim") || config.hidden_size % config.q_heads == 0,
                 StatusCode::kInvalidArgument, "hidden_size is no multiple of the number of heads");
  config.head_dim =
      fields.Count("head_dim", std::max(1U, config.hidden_size / config.q_heads), 1 << 15);
  config.vocab_size = fields.RequiredCount("vocab_size", 1 << 24);
  config.max_positions = fields.Count("max_position_embeddings", 2048, 1 << 30);
  config.rms_norm_eps = fields.Positive("rms_norm_eps", 1e-6);
  config.tie_word_embeddings = fields.Flag("tie_word_embeddings", false);
  const bool attention_bias = fields.Flag("attention_bias", false);
  config.qkv_bias = attention_bias || config.model_type == "qwen2";
  config.output_bias = attention_bias && config.model_type == "llama";
  config.mlp_bias = fields.Flag("mlp_bias", false);
  config.kv_dtype = ReadKvDType(fields);
  config.rope = ReadRope(fields, config.head_dim);
  CheckShape(fields, config);
  if (!fields.status().ok()) return fields.status();
  return config;
}

StatusOr<LlamaConfig> LoadLlamaConfig(const std::string& folder) {
  const std::string path = folder + "/config.json";
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error(StatusCode::kNotFound, "{}: cannot be read", path);
  std::string text(kMaxConfigBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxConfigBytes) {
    return Error(StatusCode::kInvalidArgument, "{}: longer than 1 MiB", path);
  }
  return ParseLlamaConfig(text, path);
}

}  // namespace passband
