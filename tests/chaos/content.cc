#include "tests/chaos/content.h"

#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/slice.h"

namespace passband::chaos {
namespace {

constexpr size_t kWords = kRowBytes / 8;
using Row = std::array<std::byte, kRowBytes>;

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t Place(uint64_t key, uint32_t layer, uint32_t head, uint64_t token) {
  return Mix((key << 48) ^ (uint64_t{layer} << 40) ^ (uint64_t{head} << 32) ^ token);
}

// Four bf16 numbers between 0.5 and 2, or their negatives.
uint64_t Word(uint64_t place, size_t index) {
  return (Mix(place + index * 0x9E3779B97F4A7C15u) & 0x80FF80FF80FF80FFu) | 0x3F003F003F003F00u;
}

}  // namespace

uint32_t Content::TokenId(uint64_t token) const {
  return static_cast<uint32_t>(Mix((KeyOf(token) << 32) ^ token) & 0x1FFFF);
}

ModelInfo ChaosModel() {
  return {.fingerprint = {std::string(64, 'c'), std::string(64, 'a')},
          .name = "chaos",
          .layers = kLayers,
          .query_heads = kKvHeads,
          .kv_heads = kKvHeads,
          .head = {.head_dim = kRowBytes / 4, .rotary_dim = kRowBytes / 4}};
}

std::shared_ptr<const Profile> ChaosProfile() {
  const ModelInfo model = ChaosModel();
  auto profile = std::make_shared<Profile>();
  profile->model_name = model.name;
  profile->fingerprint = model.fingerprint;
  profile->shape = model.head;
  profile->layers = kLayers;
  profile->query_heads = kKvHeads;
  profile->kv_heads = kKvHeads;
  profile->encoding = kernels::SliceEncoding::kInt4;
  profile->provenance = {.selector = "greedy",
                         .pairing = "rope",
                         .text_digest = std::string(64, 'd'),
                         .tool_version = "chaos"};
  for (uint32_t i = 0; i < kLayers * kKvHeads; ++i) {
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = model.head;
    spec->encoding = profile->encoding;
    spec->chunks.resize(12);
    std::iota(spec->chunks.begin(), spec->chunks.end(), static_cast<uint16_t>(i));
    spec->mean.assign(24, 0.1f * static_cast<float>(i % 4));
    spec->deviation.assign(24, 1.0f);
    profile->specs.push_back(std::move(spec));
  }
  PASSBAND_CHECK(profile->Finish().ok());
  return profile;
}

void WriteRow(uint64_t key, uint32_t layer, uint32_t head, uint64_t token,
              std::span<std::byte> row) {
  const uint64_t place = Place(key, layer, head, token);
  for (size_t i = 0; i < kWords; ++i) {
    const uint64_t word = Word(place, i);
    std::memcpy(row.data() + 8 * i, &word, 8);
  }
}

bool IsRow(uint64_t key, uint32_t layer, uint32_t head, uint64_t token,
           std::span<const std::byte> row) {
  const uint64_t place = Place(key, layer, head, token);
  for (size_t i = 0; i < kWords; ++i) {
    const uint64_t word = Word(place, i);
    if (std::memcmp(row.data() + 8 * i, &word, 8) != 0) return false;
  }
  return true;
}

bool IsRowOfAnyKey(uint32_t layer, uint32_t head, uint64_t token, std::span<const std::byte> row) {
  for (uint64_t key = 0; key < kKeys; ++key) {
    if (IsRow(key, layer, head, token, row)) return true;
  }
  return false;
}

bool IsSlice(uint64_t key, uint32_t layer, uint32_t head, uint64_t token,
             std::span<const std::byte> slice) {
  static const std::shared_ptr<const Profile> profile = ChaosProfile();
  Row row;
  WriteRow(key, layer, head, token, row);
  std::array<std::byte, 64> want;
  const kernels::SliceSpec& spec = *profile->spec(layer, head);
  kernels::EncodeSlices(spec, row.data(), kRowBytes, 1, want.data());
  return slice.size() == spec.slice_bytes() &&
         std::memcmp(slice.data(), want.data(), slice.size()) == 0;
}

bool IsSliceOfAnyKey(uint32_t layer, uint32_t head, uint64_t token,
                     std::span<const std::byte> slice) {
  for (uint64_t key = 0; key < kKeys; ++key) {
    if (IsSlice(key, layer, head, token, slice)) return true;
  }
  return false;
}

}  // namespace passband::chaos
