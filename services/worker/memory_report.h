// MemoryReport: what a worker held and moved, against what full attention would
// have: the numbers under a generation and a demonstration.
//
// Units    bytes; per-token numbers are per decoded token of one sequence, over
//          all layers and kv heads.
// Threads  plain values.
#pragma once

#include <cstdint>
#include <string>

#include "sdk/engine.h"

namespace passband {

struct MemoryReport {
  uint64_t tokens = 0;         // of all sequences, in the service
  uint64_t full_kv_bytes = 0;  // their rows: held by the service, not by the worker
  uint64_t slice_bytes = 0;
  uint64_t hot_row_bytes = 0;
  uint64_t tail_bytes = 0;
  uint64_t device_row_bytes = 0;  // full rows that a GPU keeps
  uint64_t peak_layer_bytes = 0;  // one layer's rows, during the prompt
  double decoded_tokens = 0;
  double fetched_per_token = 0;
  double unaided_per_token = 0;  // had no row been hot
  double full_per_token = 0;     // full attention

  uint64_t held_bytes() const {
    return slice_bytes + hot_row_bytes + tail_bytes + device_row_bytes;
  }
  // Of the rows that selection wants, the share that hot rows saved.
  double saved_by_hot_rows() const {
    return unaided_per_token > 0 ? 1 - fetched_per_token / unaided_per_token : 0;
  }
  double saved_against_full() const {
    return full_per_token > 0 ? 1 - fetched_per_token / full_per_token : 0;
  }

  // Counts one sequence's memory; `attended` tokens have rows.
  void AddSequence(const WorkerSequence& sequence, uint64_t attended, const ModelInfo& model);
  // What decoding moved. Call once.
  void AddSteps(const EngineStats& stats, const ModelInfo& model);
};

// What happened between two looks at an engine's counters (seconds left out).
EngineStats Between(const EngineStats& before, const EngineStats& after);
// The sum of two (seconds left out).
EngineStats Sum(const EngineStats& a, const EngineStats& b);

}  // namespace passband
