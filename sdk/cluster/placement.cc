#include "sdk/cluster/placement.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/hash.h"

namespace passband {
namespace {

constexpr size_t kBlockTokens = 64;

uint64_t HashText(const std::string& text) { return Checksum(std::as_bytes(std::span(text))); }

template <size_t N>
uint64_t HashWords(const std::array<uint64_t, N>& words) {
  return Checksum(std::as_bytes(std::span(words)));
}

}  // namespace

std::optional<uint64_t> PlacementKey(const std::string& tenant, const std::string& model,
                                     std::span<const uint32_t> token_ids) {
  if (token_ids.size() < kBlockTokens) return std::nullopt;
  // Each part hashed by itself: no text can run into the next.
  return HashWords<3>(
      {HashText(tenant), HashText(model), Checksum(std::as_bytes(token_ids.first(kBlockTokens)))});
}

Placement::Placement(std::span<const std::string> names) {
  hashes_.reserve(names.size());
  for (const std::string& name : names) hashes_.push_back(HashText(name));
}

std::vector<size_t> Placement::Rank(uint64_t key) const {
  std::vector<std::pair<uint64_t, size_t>> weights;
  weights.reserve(hashes_.size());
  for (size_t i = 0; i < hashes_.size(); ++i) {
    weights.emplace_back(HashWords<2>({key, hashes_[i]}), i);
  }
  // Equal weights (two servers of one name) fall to the hash order, not to that of the list.
  std::sort(weights.begin(), weights.end(), [this](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first > b.first;
    return std::pair(hashes_[a.second], a.second) < std::pair(hashes_[b.second], b.second);
  });
  std::vector<size_t> order;
  order.reserve(weights.size());
  for (const auto& [weight, index] : weights) order.push_back(index);
  return order;
}

}  // namespace passband
