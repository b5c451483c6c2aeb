#include "llama/cuda/device_weights.h"

#include <algorithm>
#include <cmath>

namespace passband {
namespace {

using kernels::DType;
using kernels::cuda::Elements;
using kernels::cuda::Memory;
using kernels::cuda::StreamHandle;

constexpr uint64_t kMaxFloatBytes = uint64_t{1} << 30;
constexpr float kDeviation = 0.02F;  // as such models are initialised
constexpr size_t kPieceElements = size_t{16} << 20;

// Makes the tensors of one DeviceWeights, from floats or at random.
class Maker {
 public:
  Maker(DeviceWeights& out, StreamHandle stream, uint64_t seed)
      : out_(out), stream_(stream), seed_(seed) {}

  Status Floats(const std::vector<float>& values, Memory& memory) {
    if (values.empty()) return OkStatus();
    PASSBAND_ASSIGN_OR_RETURN(memory, Allocate(values.size() * sizeof(float)));
    out_.parameters += values.size();
    return memory.CopyIn(values.data(), values.size() * sizeof(float), stream_);
  }
  Status Ones(size_t count, Memory& memory) { return Floats(std::vector<float>(count, 1), memory); }

  Status Upload(const Linear& linear, DeviceLinear& out) {
    if (linear.weight.empty()) return OkStatus();
    PASSBAND_RETURN_IF_ERROR(MakeLinear(linear.outputs, linear.inputs, out));
    PASSBAND_RETURN_IF_ERROR(Floats(linear.bias, out.bias));
    const float* from = linear.weight.data();
    const size_t count = linear.weight.size();
    if (out_.dtype == DType::kF32) {
      return out.weight.CopyIn(from, count * sizeof(float), stream_);
    }
    if (piece_.bytes() == 0) {
      PASSBAND_ASSIGN_OR_RETURN(piece_, Memory::Allocate(kPieceElements * sizeof(float)));
    }
    for (size_t done = 0; done < count; done += kPieceElements) {
      const size_t part = std::min(kPieceElements, count - done);
      PASSBAND_RETURN_IF_ERROR(piece_.CopyIn(from + done, part * sizeof(float), stream_));
      PASSBAND_RETURN_IF_ERROR(kernels::cuda::Convert(
          piece_.data<float>(), part, {out.weight.data() + done * 2, DType::kBf16}, stream_));
    }
    return OkStatus();
  }

  Status Random(size_t outputs, size_t inputs, DeviceLinear& out, float deviation = kDeviation) {
    PASSBAND_RETURN_IF_ERROR(MakeLinear(outputs, inputs, out));
    return kernels::cuda::FillNormal({out.weight.data(), out_.dtype}, outputs * inputs, ++seed_,
                                     deviation, stream_);
  }

 private:
  StatusOr<Memory> Allocate(size_t bytes) {
    auto memory = Memory::Allocate(bytes);
    if (!memory.ok()) {
      return Annotate(memory.status(),
                      fmt::format("weights, of which the device holds {} bytes", out_.bytes));
    }
    out_.bytes += bytes;
    return memory;
  }
  Status MakeLinear(size_t outputs, size_t inputs, DeviceLinear& out) {
    out.outputs = static_cast<uint32_t>(outputs);
    out.inputs = static_cast<uint32_t>(inputs);
    out_.parameters += outputs * inputs;
    PASSBAND_ASSIGN_OR_RETURN(out.weight,
                              Allocate(outputs * inputs * kernels::DTypeBytes(out_.dtype)));
    return OkStatus();
  }

  DeviceWeights& out_;
  StreamHandle stream_;
  uint64_t seed_;
  Memory piece_;
};

Status RandomLayer(const LlamaConfig& config, Maker& maker, DeviceLayer& out) {
  const size_t hidden = config.hidden_size;
  const size_t queries = size_t{config.q_heads} * config.head_dim;
  const size_t keys = size_t{config.kv_heads} * config.head_dim;
  const size_t inner = config.intermediate_size;
  PASSBAND_RETURN_IF_ERROR(maker.Ones(hidden, out.attention_norm));
  PASSBAND_RETURN_IF_ERROR(maker.Ones(hidden, out.mlp_norm));
  PASSBAND_RETURN_IF_ERROR(maker.Random(queries + 2 * keys, hidden, out.qkv));
  // What is added to the residual is smaller in deeper models, as where training begins.
  const float added = kDeviation / std::sqrt(2.0F * static_cast<float>(config.layers));
  PASSBAND_RETURN_IF_ERROR(maker.Random(hidden, queries, out.output, added));
  PASSBAND_RETURN_IF_ERROR(maker.Random(2 * inner, hidden, out.gate_up));
  return maker.Random(hidden, inner, out.down, added);
}

}  // namespace

StatusOr<DeviceWeights> UploadWeights(const LlamaConfig& config, const LlamaWeights& weights,
                                      StreamHandle stream) {
  DeviceWeights out;
  out.dtype = weights.parameters() * sizeof(float) <= kMaxFloatBytes ? DType::kF32 : DType::kBf16;
  Maker maker(out, stream, 0);
  PASSBAND_RETURN_IF_ERROR(maker.Upload(weights.embedding, out.embedding));
  PASSBAND_RETURN_IF_ERROR(maker.Floats(weights.norm, out.norm));
  PASSBAND_RETURN_IF_ERROR(maker.Upload(weights.head, out.head));
  out.layers.resize(config.layers);
  for (uint32_t i = 0; i < config.layers; ++i) {
    const LayerWeights& from = weights.layers[i];
    DeviceLayer& to = out.layers[i];
    PASSBAND_RETURN_IF_ERROR(maker.Floats(from.attention_norm, to.attention_norm));
    PASSBAND_RETURN_IF_ERROR(maker.Floats(from.mlp_norm, to.mlp_norm));
    PASSBAND_RETURN_IF_ERROR(maker.Upload(from.qkv, to.qkv));
    PASSBAND_RETURN_IF_ERROR(maker.Upload(from.output, to.output));
    PASSBAND_RETURN_IF_ERROR(maker.Upload(from.gate_up, to.gate_up));
    PASSBAND_RETURN_IF_ERROR(maker.Upload(from.down, to.down));
  }
  return out;
}

StatusOr<DeviceWeights> RandomWeights(const LlamaConfig& config, uint64_t seed,
                                      StreamHandle stream) {
  DeviceWeights out;
  Maker maker(out, stream, seed * 0x10001);
  // Larger than what layers add, so that a token's queries resemble those of its last time.
  PASSBAND_RETURN_IF_ERROR(
      maker.Random(config.vocab_size, config.hidden_size, out.embedding, 1.0F));
  PASSBAND_RETURN_IF_ERROR(maker.Ones(config.hidden_size, out.norm));
  if (!config.tie_word_embeddings) {
    PASSBAND_RETURN_IF_ERROR(maker.Random(config.vocab_size, config.hidden_size, out.head));
  }
  out.layers.resize(config.layers);
  for (DeviceLayer& layer : out.layers) {
    PASSBAND_RETURN_IF_ERROR(RandomLayer(config, maker, layer));
  }
  return out;
}

}  // namespace passband
