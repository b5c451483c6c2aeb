// Types: ids, shapes and plain records of the store.
//
// Contract  plain values; the store knows bytes of rows, never what they mean.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/strong_id.h"

namespace passband {

using SequenceId = StrongId<struct SequenceTag>;
// Who opened a sequence (a session); what it leaves unsealed is closed with it.
using OwnerId = StrongId<struct OwnerTag>;

inline constexpr uint32_t kBlockTokens = 64;

// What one model stores. A row is one token's [K | V] of one (layer, kv head).
struct KvShape {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t row_bytes = 0;  // multiple of 16

  // 64 tokens of one layer, rows ordered [kv_head][token].
  uint64_t block_bytes() const { return uint64_t{kv_heads} * kBlockTokens * row_bytes; }
  uint64_t token_bytes() const { return uint64_t{layers} * kv_heads * row_bytes; }
  bool operator==(const KvShape&) const = default;
};

struct ModelSpec {
  // Names the checkpoint, dtype, RoPE layout: equal fingerprints mean that
  // equal tokens give equal rows.
  std::string fingerprint;
  std::string name;  // for people
  KvShape shape;
};

enum class SequenceState : uint8_t { kOpen, kSealed };

struct SequenceInfo {
  SequenceId id;
  std::string tenant;
  std::string model;  // fingerprint
  OwnerId owner;
  SequenceState state = SequenceState::kOpen;
  uint64_t committed_tokens = 0;  // every layer holds at least these
  uint64_t known_tokens = 0;      // token ids known (prefix index)
  uint64_t shared_tokens = 0;     // of these, in blocks shared with others
  uint64_t resident_bytes = 0;    // arena bytes it refers to, shared ones included
  double idle_seconds = 0;
};

// Rows of one (sequence, layer, kv head), by token index in any order.
struct RowGroup {
  SequenceId sequence;
  uint32_t layer = 0;
  uint32_t kv_head = 0;
  std::span<const uint32_t> tokens;
};

struct StoreStats {
  uint64_t capacity_bytes = 0;  // arena
  uint64_t used_bytes = 0;      // in blocks, cached ones included
  uint64_t cached_bytes = 0;    // only the prefix index refers to them: evictable
  uint64_t sequences_open = 0;
  uint64_t sequences_sealed = 0;
  uint64_t stored_tokens = 0;   // sum of committed tokens, shared counted once a sequence
  uint64_t prefix_blocks = 0;   // entries of the prefix index
  uint64_t prefix_lookups = 0;  // tokens asked for at open
  uint64_t prefix_hits = 0;     // tokens found
  uint64_t evicted_blocks = 0;
  uint64_t allocation_failures = 0;
};

}  // namespace passband
