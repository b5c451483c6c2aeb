// Types: ids, shapes and plain records of the store.
//
// Contract  plain values; the store knows bytes of rows, never what they mean.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
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
inline constexpr uint32_t kMaxBlockPlanes = 64;

// What one model stores. A row is one token's [K | V] of one (layer, kv head).
struct KvShape {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t row_bytes = 0;  // multiple of 16

  // 64 tokens of one layer, rows ordered [kv_head][token].
  uint64_t block_bytes() const { return uint64_t{kv_heads} * kBlockTokens * row_bytes; }
  // The parts of a block that can be restored apart: one a kv head, or as many equal groups
  // of heads as there may be.
  uint32_t planes() const {
    uint32_t planes = std::min(kv_heads, kMaxBlockPlanes);
    while (kv_heads % planes != 0) --planes;
    return planes;
  }
  uint64_t token_bytes() const { return uint64_t{layers} * kv_heads * row_bytes; }
  bool operator==(const KvShape&) const = default;
};

struct ModelSpec {
  // Names the checkpoint, dtype, RoPE layout: equal fingerprints mean that
  // equal tokens give equal rows.
  std::string fingerprint;
  std::string name;  // for people
  KvShape shape;
  std::string detail;  // whoever registers it keeps this with it
};

// What happens when the tier below RAM is at its limit: it forgets its oldest generation, or
// what is in RAM stays there and new rows are refused.
enum class FullTierPolicy : uint8_t { kDropOldest, kReject };

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
  // Judged by the first layer; shared ones included.
  uint64_t resident_bytes = 0;  // arena bytes it refers to
  uint64_t spilled_bytes = 0;   // in blocks that are in the tier only
  double idle_seconds = 0;
  double pin_seconds = 0;  // stays pinned for so long; 0: is not
  double ttl_seconds = 0;  // closed after so long without use; 0: never
};

// Rows of one (sequence, layer, kv head), by token index in any order.
struct RowGroup {
  SequenceId sequence;
  uint32_t layer = 0;
  uint32_t kv_head = 0;
  std::span<const uint32_t> tokens;
};

// Times of allocations that found no free slot at once, whether they got one or not.
struct AllocationStalls {
  // Upper bounds in seconds; one more count holds what is longer.
  static constexpr std::array<double, 11> kBounds = {1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3,
                                                     1e-2, 2e-2, 5e-2, 0.1,  0.5};
  std::array<uint64_t, kBounds.size() + 1> counts{};
  double sum_seconds = 0;
  double longest_seconds = 0;

  uint64_t count() const { return std::accumulate(counts.begin(), counts.end(), uint64_t{0}); }
};

struct StoreStats {
  uint64_t capacity_bytes = 0;  // arena
  uint64_t used_bytes = 0;      // in blocks, cached ones included
  uint64_t cached_bytes = 0;    // only the prefix index refers to them: evictable
  uint64_t sequences_open = 0;
  uint64_t sequences_sealed = 0;
  uint64_t pins = 0;              // sequences that are pinned
  uint64_t pinned_bytes = 0;      // of their blocks, shared ones once
  uint64_t sequences_reaped = 0;  // closed because nobody used them for their TTL
  uint64_t stored_tokens = 0;     // sum of committed tokens, shared counted once a sequence
  uint64_t prefix_blocks = 0;     // entries of the prefix index
  uint64_t prefix_lookups = 0;    // tokens asked for at open
  uint64_t prefix_hits = 0;       // tokens found
  uint64_t evicted_blocks = 0;    // of cached columns that were forgotten
  uint64_t allocation_failures = 0;
  AllocationStalls allocation_stalls;

  // All zero without a tier.
  uint64_t tier_capacity_bytes = 0;
  uint64_t tier_used_bytes = 0;
  uint64_t spilled_bytes = 0;        // of blocks that are in the tier only
  uint64_t clean_bytes = 0;          // of used_bytes, with a copy in the tier
  uint64_t pending_spill_bytes = 0;  // of used_bytes, whole and without a copy
  uint64_t spilled_blocks = 0;       // written so far
  uint64_t spill_written_bytes = 0;
  uint64_t spill_errors = 0;  // refusals of a full tier included
  uint64_t dropped_generations = 0;
  uint64_t evictions_clean = 0;  // blocks that left RAM: had a copy,
  uint64_t evictions_dirty = 0;  // had to be written first
  uint64_t ram_hits = 0;         // blocks that a call found in RAM
  uint64_t restore_jobs = 0;
  uint64_t restore_failures = 0;
  uint64_t restores_pending = 0;  // jobs
  uint64_t restored_blocks = 0;
  uint64_t restored_planes = 0;  // reads of the tier
  uint64_t restored_bytes = 0;
  uint64_t lost_blocks = 0;  // found missing or damaged
  uint64_t tier_read_errors = 0;
  uint64_t restored_sequences = 0;  // at start: sealed by an earlier run,
  uint64_t left_out_sequences = 0;  // recorded, but cannot be served
  uint64_t damaged_records = 0;
  uint64_t restored_prefix_blocks = 0;  // at start: of no sealed sequence
  uint64_t recorded_prefix_blocks = 0;  // of prefix_blocks, in the tier as a whole, and recorded
  uint64_t durable_seals = 0;           // by this run
  uint64_t seal_failures = 0;
  uint64_t seals_pending = 0;
  // Sealed sequences of which the tier forgot blocks,
  uint64_t renewed_seals = 0;     // that were written and recorded anew
  uint64_t renewals_pending = 0;  // that are still to be
  uint64_t lost_seals = 0;        // that were nowhere else
  uint64_t erasure_failures = 0;  // tries to erase records of closed sequences
  uint64_t erasures_pending = 0;  // sequences whose records are still to be erased
};

}  // namespace passband
