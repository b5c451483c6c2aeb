#include "llama/fingerprint.h"

#include <span>

#include "base/hash.h"
#include "base/units.h"

namespace passband {
namespace {

constexpr uint64_t kWholeTensorBytes = kMiB;
constexpr uint64_t kPages = 256;
constexpr uint64_t kPageBytes = 4 * kKiB;

// A length before each text keeps neighbouring fields apart.
void AddText(Sha256& hash, const std::string& text) {
  hash.Update(static_cast<uint64_t>(text.size())).Update(text);
}

void AddNumber(Sha256& hash, double value) { hash.Update(std::as_bytes(std::span(&value, 1))); }

void AddTensor(Sha256& hash, const TensorView& tensor) {
  AddText(hash, tensor.name);
  AddText(hash, TensorDTypeName(tensor.dtype));
  AddText(hash, ShapeText(tensor.shape));
  const std::span<const std::byte> bytes = tensor.bytes;
  if (bytes.size() <= kWholeTensorBytes) {
    hash.Update(bytes);
    return;
  }
  const uint64_t last = bytes.size() - kPageBytes;
  for (uint64_t page = 0; page < kPages; ++page) {
    // last / 255 * page would lose the tail; split to stay below 64 bit.
    const uint64_t offset = last / (kPages - 1) * page + last % (kPages - 1) * page / (kPages - 1);
    hash.Update(bytes.subspan(offset, kPageBytes));
  }
}

std::string ArchitectureDigest(const LlamaConfig& config) {
  Sha256 hash;
  AddText(hash, "passband llama architecture 1");
  AddText(hash, config.model_type);
  for (const uint64_t field :
       {uint64_t{config.layers}, uint64_t{config.hidden_size}, uint64_t{config.intermediate_size},
        uint64_t{config.q_heads}, uint64_t{config.kv_heads}, uint64_t{config.head_dim},
        uint64_t{config.vocab_size}, uint64_t{config.tie_word_embeddings},
        uint64_t{config.qkv_bias}, uint64_t{config.output_bias}, uint64_t{config.mlp_bias},
        uint64_t{config.rope.rotary_dim}, static_cast<uint64_t>(config.rope.scaling),
        static_cast<uint64_t>(config.head_shape().layout),
        static_cast<uint64_t>(config.kv_dtype)}) {
    hash.Update(field);
  }
  for (const double field :
       {config.rms_norm_eps, config.rope.theta, config.rope.factor, config.rope.low_freq_factor,
        config.rope.high_freq_factor, config.rope.original_positions}) {
    AddNumber(hash, field);
  }
  return ToHex(hash.Finish());
}

}  // namespace

ModelFingerprint RandomFingerprint(const LlamaConfig& config, const std::string& shape,
                                   uint64_t seed) {
  Sha256 hash;
  AddText(hash, "passband random weights 1");
  AddText(hash, shape);
  hash.Update(seed);
  return {.architecture = ArchitectureDigest(config), .weights = ToHex(hash.Finish())};
}

ModelFingerprint ComputeFingerprint(const LlamaConfig& config, const Safetensors& weights) {
  Sha256 hash;
  AddText(hash, "passband weights 1");
  for (const auto& [name, tensor] : weights.tensors()) AddTensor(hash, tensor);
  return {.architecture = ArchitectureDigest(config), .weights = ToHex(hash.Finish())};
}

}  // namespace passband
