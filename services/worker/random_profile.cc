#include "services/worker/device_host.h"

namespace passband {
namespace {

constexpr uint16_t kChunks = 24;
// Of a component of a key: hidden_size products of a normalised activation and a weight.
constexpr float kDeviation = 1.28F;

}  // namespace

StatusOr<std::shared_ptr<const Profile>> RandomProfile(const LlamaModel& model) {
  const LlamaConfig& config = model.config();
  auto spec = std::make_shared<kernels::SliceSpec>();
  spec->shape = config.head_shape();
  spec->encoding = kernels::SliceEncoding::kInt2;
  const int chunks = spec->shape.chunks();
  for (int chunk = chunks > kChunks ? chunks - kChunks : 0; chunk < chunks; ++chunk) {
    spec->chunks.push_back(static_cast<uint16_t>(chunk));
  }
  spec->mean.assign(2 * spec->chunks.size(), 0.0F);
  spec->deviation.assign(2 * spec->chunks.size(), kDeviation);
  auto profile = std::make_shared<Profile>();
  profile->model_name = model.name();
  profile->fingerprint = model.fingerprint();
  profile->shape = spec->shape;
  profile->layers = config.layers;
  profile->query_heads = config.q_heads;
  profile->kv_heads = config.kv_heads;
  profile->encoding = spec->encoding;
  profile->provenance.selector = "greedy";
  profile->provenance.pairing = "rope";
  profile->provenance.documents = 1;
  profile->provenance.context_tokens = 1;
  profile->provenance.positions = 1;
  profile->provenance.top_k = 1;
  profile->specs.assign(size_t{config.layers} * config.kv_heads, spec);
  PASSBAND_RETURN_IF_ERROR(profile->Finish());
  return std::shared_ptr<const Profile>(std::move(profile));
}

}  // namespace passband
