#include "kvstore/prefix_chain.h"

#include <bit>
#include <cstring>

namespace passband {

static_assert(std::endian::native == std::endian::little, "token ids are hashed as they lie");

PrefixDigest PrefixRoot(const std::string& fingerprint, const std::string& tenant) {
  return Sha256()
      .Update(uint64_t{fingerprint.size()})
      .Update(fingerprint)
      .Update(uint64_t{kBlockTokens})
      .Update(uint64_t{tenant.size()})
      .Update(tenant)
      .Finish();
}

void ExtendPrefixChain(PrefixDigest parent, std::span<const uint32_t> token_ids,
                       std::vector<PrefixDigest>& chain) {
  const size_t blocks = token_ids.size() / kBlockTokens;
  chain.reserve(chain.size() + blocks);
  std::array<std::byte, sizeof(PrefixDigest) + kBlockTokens * sizeof(uint32_t)> text;
  for (size_t i = 0; i < blocks; ++i) {
    const auto ids = std::as_bytes(token_ids.subspan(i * kBlockTokens, kBlockTokens));
    std::memcpy(text.data(), parent.data(), parent.size());
    std::memcpy(text.data() + parent.size(), ids.data(), ids.size());
    parent = HashSha256(text);
    chain.push_back(parent);
  }
}

}  // namespace passband
