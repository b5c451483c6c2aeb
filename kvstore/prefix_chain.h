// Prefix chain: names of token prefixes, one for each whole block.
//
//   digest[i] = SHA-256(digest[i - 1], the 64 token ids of block i)
//   root      = SHA-256(model fingerprint, block length, tenant)
//
// Equal digests mean equal model, tenant and tokens from the first on, so equal
// rows; nobody can make two prefixes collide.
//
// Units    token ids and tokens.
// Threads  safe: no state.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "kvstore/types.h"

namespace passband {

using PrefixDigest = Sha256Digest;

PrefixDigest PrefixRoot(const std::string& fingerprint, const std::string& tenant);

// Appends the digests of the whole blocks of `token_ids` to `chain`, the first
// of them following `parent`. A remainder of fewer than 64 ids is left out.
void ExtendPrefixChain(PrefixDigest parent, std::span<const uint32_t> token_ids,
                       std::vector<PrefixDigest>& chain);

}  // namespace passband
