// EngineWorld: a model of random shape, a profile for it, and sequences whose
// rows follow from their token ids, so that every output can be computed again
// from the ids alone.
//
// Threads  one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "kernels/fac.h"
#include "sdk/engine.h"
#include "tests/support/map_kv_service.h"

namespace passband::testing {

using Random = std::mt19937_64;

inline uint32_t Below(Random& random, uint32_t limit) {
  return static_cast<uint32_t>(random() % limit);
}

class EngineWorld {
 public:
  explicit EngineWorld(uint64_t seed);

  // The row of a token: a function of its id, its position and the head.
  std::vector<std::byte> Row(uint32_t layer, uint32_t kv_head, uint64_t position,
                             uint32_t token_id) const;
  // [kv_head][row_bytes]
  std::vector<std::byte> TokenRows(uint32_t layer, uint64_t position, uint32_t token_id) const;
  // [kv_head][count][row_bytes] of tokens [first, first + count).
  std::vector<std::byte> RangeRows(uint32_t layer, const std::vector<uint32_t>& ids, uint64_t first,
                                   uint64_t count) const;
  // [query_heads][head_dim]
  std::vector<float> Queries(uint32_t layer, uint64_t position, uint32_t token_id) const;
  size_t out_size() const { return size_t{model.query_heads} * model.head.head_dim; }

  // What a step at the last of `ids` gives, computed by the kernels over plain
  // arrays: no cache, no tail, no service.
  std::vector<float> PlainStep(uint32_t layer, const std::vector<uint32_t>& ids,
                               const EngineOptions& options) const;
  // Full attention at the last of `ids`, in double precision.
  std::vector<double> Reference(uint32_t layer, const std::vector<uint32_t>& ids,
                                float scale) const;
  // Attention of one query head over chosen rows, in double precision.
  std::vector<double> ReferenceHead(const float* query,
                                    const std::vector<std::vector<std::byte>>& rows,
                                    float scale) const;

  std::unique_ptr<Engine> MakeEngine(KvService& service, const EngineOptions& options) const;

  ModelInfo model;
  std::shared_ptr<const Profile> profile;
};

// A sequence and the ids it should hold.
struct Driven {
  std::unique_ptr<WorkerSequence> sequence;
  std::vector<uint32_t> ids;

  // Ids are appended to `ids`; rows of all layers to the sequence, in pieces.
  Status Prefill(Engine& engine, const EngineWorld& world, const std::vector<uint32_t>& more,
                 Random& random);
};

// One token for each sequence through every layer: outputs [layer][sequence].
StatusOr<std::vector<std::vector<std::vector<float>>>> StepTokens(
    Engine& engine, const EngineWorld& world, const std::vector<Driven*>& batch,
    const std::vector<uint32_t>& token_ids, bool full = false);

std::vector<uint32_t> RandomIds(Random& random, size_t count);

}  // namespace passband::testing
