#include "services/cli/synthetic_rows.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace passband {
namespace {

constexpr uint16_t kChunks = 24;
constexpr float kDeviation = 1.28F;

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// Eight bytes at a time, the last of them cut.
template <typename Use>
void ForWords(uint64_t seed, size_t bytes, const Use& use) {
  uint64_t state = seed;
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    state += 0x9E3779B97F4A7C15U;
    const uint64_t word = state ^ (state >> 29);
    use(at, word * 0xBF58476D1CE4E5B9U, std::min(sizeof(uint64_t), bytes - at));
  }
}

Status WrongSize(size_t got, size_t wanted) {
  return Error(StatusCode::kInternal, "an answer of {} bytes, not {}", got, wanted);
}

}  // namespace

ModelInfo SyntheticModel(uint32_t layers, uint32_t kv_heads, const kernels::HeadShape& head) {
  Sha256 hash;
  hash.Update(std::string("synthetic rows"))
      .Update(uint64_t{layers})
      .Update(uint64_t{kv_heads})
      .Update(uint64_t{head.head_dim})
      .Update(uint64_t{head.rotary_dim})
      .Update(static_cast<uint64_t>(head.dtype));
  const std::string digest = ToHex(hash.Finish());
  return {.fingerprint = {digest, digest},
          .name = "synthetic",
          .layers = layers,
          .query_heads = kv_heads,
          .kv_heads = kv_heads,
          .head = head};
}

StatusOr<std::shared_ptr<const Profile>> SyntheticProfile(const ModelInfo& model) {
  auto spec = std::make_shared<kernels::SliceSpec>();
  spec->shape = model.head;
  spec->encoding = kernels::SliceEncoding::kInt2;
  const int chunks = model.head.chunks();
  for (int chunk = std::max(0, chunks - kChunks); chunk < chunks; ++chunk) {
    spec->chunks.push_back(static_cast<uint16_t>(chunk));
  }
  spec->mean.assign(2 * spec->chunks.size(), 0.0F);
  spec->deviation.assign(2 * spec->chunks.size(), kDeviation);
  auto profile = std::make_shared<Profile>();
  profile->model_name = model.name;
  profile->fingerprint = model.fingerprint;
  profile->shape = model.head;
  profile->layers = model.layers;
  profile->query_heads = model.query_heads;
  profile->kv_heads = model.kv_heads;
  profile->encoding = spec->encoding;
  profile->provenance.selector = "greedy";
  profile->provenance.pairing = "rope";
  profile->provenance.documents = 1;
  profile->provenance.context_tokens = 1;
  profile->provenance.positions = 1;
  profile->provenance.top_k = 1;
  profile->specs.assign(size_t{model.layers} * model.kv_heads, spec);
  PASSBAND_RETURN_IF_ERROR(profile->Finish());
  return std::shared_ptr<const Profile>(std::move(profile));
}

SyntheticRows::SyntheticRows(const ModelInfo& model, uint64_t salt)
    : kv_heads_(model.kv_heads), row_bytes_(model.head.row_bytes()), salt_(Mix(salt)) {}

void SyntheticRows::FillRow(uint32_t layer, uint32_t kv_head, uint64_t token,
                            std::byte* out) const {
  const uint64_t seed = Mix(salt_ + Mix(token << 24U | uint64_t{layer} << 12U | kv_head));
  ForWords(seed, row_bytes_,
           [out](size_t at, uint64_t word, size_t size) { std::memcpy(out + at, &word, size); });
}

Status SyntheticRows::CheckRow(uint32_t layer, uint32_t kv_head, uint64_t token,
                               const std::byte* row) const {
  const uint64_t seed = Mix(salt_ + Mix(token << 24U | uint64_t{layer} << 12U | kv_head));
  uint64_t wrong = 0;
  ForWords(seed, row_bytes_, [row, &wrong](size_t at, uint64_t word, size_t size) {
    uint64_t got = word;
    std::memcpy(&got, row + at, size);
    wrong |= got ^ word;
  });
  if (wrong == 0) return OkStatus();
  return Error(StatusCode::kDataLoss,
               "wrong bytes: layer {}, kv head {}, token {}; keep the server's log and tell us",
               layer, kv_head, token);
}

void SyntheticRows::Fill(uint32_t layer, uint64_t first, uint64_t count,
                         std::vector<std::byte>& out) const {
  out.resize(kv_heads_ * count * row_bytes_);
  std::byte* at = out.data();
  for (uint32_t head = 0; head < kv_heads_; ++head) {
    for (uint64_t token = first; token < first + count; ++token, at += row_bytes_) {
      FillRow(layer, head, token, at);
    }
  }
}

Status SyntheticRows::CheckRange(uint32_t layer, uint64_t first, uint64_t count,
                                 std::span<const std::byte> rows) const {
  const size_t bytes = kv_heads_ * count * row_bytes_;
  if (rows.size() != bytes) return WrongSize(rows.size(), bytes);
  const std::byte* at = rows.data();
  for (uint32_t head = 0; head < kv_heads_; ++head) {
    for (uint64_t token = first; token < first + count; ++token, at += row_bytes_) {
      PASSBAND_RETURN_IF_ERROR(CheckRow(layer, head, token, at));
    }
  }
  return OkStatus();
}

Status SyntheticRows::CheckRows(uint32_t layer, uint32_t kv_head, std::span<const uint32_t> tokens,
                                std::span<const std::byte> rows) const {
  const size_t bytes = tokens.size() * row_bytes_;
  if (rows.size() != bytes) return WrongSize(rows.size(), bytes);
  const std::byte* at = rows.data();
  for (const uint32_t token : tokens) {
    PASSBAND_RETURN_IF_ERROR(CheckRow(layer, kv_head, token, at));
    at += row_bytes_;
  }
  return OkStatus();
}

Status SyntheticRows::CheckSlices(const Profile& profile, uint32_t layer, uint64_t count,
                                  std::span<const std::byte> slices) const {
  const size_t slice_bytes = profile.slice_bytes();
  if (slices.size() != kv_heads_ * count * slice_bytes) {
    return WrongSize(slices.size(), kv_heads_ * count * slice_bytes);
  }
  std::vector<std::byte> row(row_bytes_), slice(slice_bytes);
  const std::byte* at = slices.data();
  for (uint32_t head = 0; head < kv_heads_; ++head) {
    for (uint64_t token = 0; token < count; ++token, at += slice_bytes) {
      FillRow(layer, head, token, row.data());
      kernels::EncodeSlices(*profile.spec(layer, head), row.data(), row_bytes_, 1, slice.data());
      if (std::memcmp(at, slice.data(), slice_bytes) == 0) continue;
      return Error(StatusCode::kDataLoss, "a wrong slice: layer {}, kv head {}, token {}", layer,
                   head, token);
    }
  }
  return OkStatus();
}

}  // namespace passband
