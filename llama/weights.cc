#include "llama/weights.h"

#include <initializer_list>
#include <string>

namespace passband {
namespace {

// Reads tensors whose shape the config dictates.
class Reader {
 public:
  explicit Reader(const Safetensors& tensors) : tensors_(tensors) {}

  // Appends the elements of `name` to `out`.
  Status Append(const std::string& name, const std::vector<uint64_t>& shape,
                std::vector<float>& out) const {
    const TensorView* tensor = tensors_.Find(name);
    if (tensor == nullptr) {
      return Error(StatusCode::kInvalidArgument, "tensor '{}' is not in the checkpoint", name);
    }
    if (tensor->shape != shape) {
      return Error(StatusCode::kInvalidArgument, "tensor '{}' is {}, the config asks for {}", name,
                   ShapeText(tensor->shape), ShapeText(shape));
    }
    const size_t before = out.size();
    out.resize(before + tensor->elements());
    return TensorToFloat(*tensor, std::span(out).subspan(before));
  }

  // A part of a Linear: its tensors' names without ".weight", and their outputs.
  struct Part {
    std::string name;
    size_t outputs;
  };

  // Stacks the parts' outputs.
  StatusOr<Linear> Stack(std::initializer_list<Part> parts, size_t inputs, bool bias) const {
    Linear out;
    out.inputs = inputs;
    for (const Part& part : parts) {
      out.outputs += part.outputs;
      PASSBAND_RETURN_IF_ERROR(Append(part.name + ".weight", {part.outputs, inputs}, out.weight));
      if (bias) PASSBAND_RETURN_IF_ERROR(Append(part.name + ".bias", {part.outputs}, out.bias));
    }
    return out;
  }

 private:
  const Safetensors& tensors_;
};

StatusOr<LayerWeights> LoadLayer(const LlamaConfig& config, const Reader& reader, uint32_t layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const size_t hidden = config.hidden_size;
  const size_t queries = size_t{config.q_heads} * config.head_dim;
  const size_t keys = size_t{config.kv_heads} * config.head_dim;
  const size_t inner = config.intermediate_size;
  LayerWeights out;
  PASSBAND_RETURN_IF_ERROR(
      reader.Append(prefix + "input_layernorm.weight", {hidden}, out.attention_norm));
  PASSBAND_ASSIGN_OR_RETURN(out.qkv, reader.Stack({{attention + "q_proj", queries},
                                                   {attention + "k_proj", keys},
                                                   {attention + "v_proj", keys}},
                                                  hidden, config.qkv_bias));
  PASSBAND_ASSIGN_OR_RETURN(
      out.output, reader.Stack({{attention + "o_proj", hidden}}, queries, config.output_bias));
  PASSBAND_RETURN_IF_ERROR(
      reader.Append(prefix + "post_attention_layernorm.weight", {hidden}, out.mlp_norm));
  PASSBAND_ASSIGN_OR_RETURN(
      out.gate_up, reader.Stack({{mlp + "gate_proj", inner}, {mlp + "up_proj", inner}}, hidden,
                                config.mlp_bias));
  PASSBAND_ASSIGN_OR_RETURN(out.down,
                            reader.Stack({{mlp + "down_proj", hidden}}, inner, config.mlp_bias));
  return out;
}

uint64_t ParametersOf(const Linear& linear) { return linear.weight.size() + linear.bias.size(); }

}  // namespace

uint64_t LlamaWeights::parameters() const {
  uint64_t total = ParametersOf(embedding) + ParametersOf(head) + norm.size();
  for (const LayerWeights& layer : layers) {
    total += layer.attention_norm.size() + layer.mlp_norm.size() + ParametersOf(layer.qkv) +
             ParametersOf(layer.output) + ParametersOf(layer.gate_up) + ParametersOf(layer.down);
  }
  return total;
}

StatusOr<LlamaWeights> LoadWeights(const LlamaConfig& config, const Safetensors& tensors) {
  const Reader reader(tensors);
  LlamaWeights out;
  PASSBAND_ASSIGN_OR_RETURN(out.embedding, reader.Stack({{"model.embed_tokens", config.vocab_size}},
                                                        config.hidden_size, /*bias=*/false));
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    PASSBAND_ASSIGN_OR_RETURN(LayerWeights weights, LoadLayer(config, reader, layer));
    out.layers.push_back(std::move(weights));
  }
  PASSBAND_RETURN_IF_ERROR(reader.Append("model.norm.weight", {config.hidden_size}, out.norm));
  if (!config.tie_word_embeddings) {
    PASSBAND_ASSIGN_OR_RETURN(out.head, reader.Stack({{"lm_head", config.vocab_size}},
                                                     config.hidden_size, /*bias=*/false));
  }
  return out;
}

}  // namespace passband
