// Probe: how good a selection is, seen from the true attention weights.
//
//   mass    share of the softmax weight of each query head that lies on its
//           set, averaged over heads, layers and positions
//   recall  of the tokens that the true scores choose beside sinks and recent
//           window (the oracle's, under the same options), the share that the
//           method chose too. For a set per query head the true scores are the
//           head's own; for a shared set, the mean over its group.
//
// Threads  a Probe is for one walk; ProbeSums are plain values.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/select.h"
#include "services/worker/eval/exact_keys.h"

namespace passband {

struct ProbeSums {
  double mass = 0;
  uint64_t masses = 0;
  double recall = 0;
  uint64_t recalls = 0;

  double mean_mass() const { return masses == 0 ? 1 : mass / static_cast<double>(masses); }
  double mean_recall() const { return recalls == 0 ? 1 : recall / static_cast<double>(recalls); }
  void Add(const ProbeSums& other);
};

class Probe {
 public:
  explicit Probe(const kernels::SelectOptions& options) : options_(options) {}

  // queries: [group][head_dim]; sets: one for the group, or one a query head.
  void Look(const LayerKeys& keys, uint32_t kv_head, uint64_t context, const float* queries,
            const std::vector<std::vector<uint32_t>>& sets);

  const ProbeSums& sums() const { return sums_; }

 private:
  void LookAtRecall(const float* scores, uint64_t context, const std::vector<uint32_t>& set);

  const kernels::SelectOptions options_;
  kernels::SelectScratch scratch_;
  std::vector<float> weights_, scores_;
  std::vector<uint32_t> truth_;
  ProbeSums sums_;
};

}  // namespace passband
