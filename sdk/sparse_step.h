// SparseStep: one decode step of one layer for a batch:
//   append -> select -> row cache -> one fetch -> fac
//
// Each chosen token's row is in the tail, in the row cache, or missing. Missing
// ones are asked for in one request and kept in the cache as far as it has
// slots; the rest is used where it landed.
//
// Threads  one at a time: it keeps its memory from step to step, and allocates
//          nothing once it has seen the largest.
// Errors   what the service or the selector says; kInvalidArgument for a
//          selector's answer that is not rising or not within the context. Then
//          no output is written, every sequence has its former length, and the
//          step can be repeated.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sdk/engine.h"
#include "sdk/fetcher.h"
#include "sdk/lap_timer.h"
#include "sdk/sequence_state.h"

namespace passband {

class SparseStep {
 public:
  SparseStep(KvService* service, const ModelInfo& model, float scale);

  // `sequences` are those of `items`, all different. Adds to `stats`.
  Status Run(uint32_t layer, std::span<const StepItem> items,
             std::span<SequenceState* const> sequences, TokenSelector& selector,
             EngineStats& stats);

 private:
  // What one (item, kv head) attends to: ranges of the vectors below.
  struct HeadWork {
    RowCache* cache = nullptr;
    const float* queries = nullptr;
    float* out = nullptr;
    size_t first_row = 0;  // of rows_ and tokens_
    size_t rows = 0;
    size_t first_missing = 0;  // of missing_, and of the fetcher's answer
    size_t missing = 0;
    size_t first_set = 0;   // of set_ends_, when each query head has its own set
    size_t first_pick = 0;  // of picks_
    bool own_sets = false;
  };

  Status SelectHead(const StepItem& item, SequenceState& sequence, uint32_t layer, uint32_t kv_head,
                    TokenSelector& selector, EngineStats& stats);
  Status CheckSets(uint64_t context) const;
  void MergeSets(HeadWork& work);
  void Classify(const SequenceState::Layer& layer, uint32_t kv_head, HeadWork& work,
                EngineStats& stats);
  Status EnsureStored(uint32_t layer, std::span<SequenceState* const> sequences);
  void Land(const std::byte* fetched);
  void Attend(const HeadWork& work);

  KvService* service_;
  const ModelInfo& model_;
  float scale_;
  size_t row_bytes_;
  Fetcher fetcher_;
  LapTimer timer_;

  std::vector<std::vector<uint32_t>> sets_;  // the selector's answer for one head
  std::vector<uint32_t> merged_;             // their union
  std::vector<HeadWork> works_;
  std::vector<uint32_t> tokens_;
  std::vector<const std::byte*> rows_;
  std::vector<uint32_t> missing_;  // indices into rows_
  std::vector<uint32_t> picks_;    // per set: indices into its head's rows
  std::vector<size_t> set_ends_;   // ends of the sets in picks_
  std::vector<const std::byte*> set_rows_;
};

}  // namespace passband
