#include "services/worker/memory_report.h"

namespace passband {
namespace {

constexpr uint64_t EngineStats::*kCounters[] = {&EngineStats::steps,
                                                &EngineStats::selected_rows,
                                                &EngineStats::hot_rows,
                                                &EngineStats::tail_rows,
                                                &EngineStats::fetched_rows,
                                                &EngineStats::fetched_bytes,
                                                &EngineStats::full_attention_bytes};

}  // namespace

EngineStats Between(const EngineStats& before, const EngineStats& after) {
  EngineStats out;
  for (const auto counter : kCounters) out.*counter = after.*counter - before.*counter;
  return out;
}

EngineStats Sum(const EngineStats& a, const EngineStats& b) {
  EngineStats out;
  for (const auto counter : kCounters) out.*counter = a.*counter + b.*counter;
  return out;
}

void MemoryReport::AddSequence(const WorkerSequence& sequence, uint64_t attended,
                               const ModelInfo& model) {
  tokens += attended;
  full_kv_bytes += attended * model.token_bytes();
  slice_bytes += sequence.slice_bytes();
  hot_row_bytes += sequence.hot_row_bytes();
  tail_bytes += sequence.tail_bytes();
}

void MemoryReport::AddSteps(const EngineStats& stats, const ModelInfo& model) {
  decoded_tokens = static_cast<double>(stats.steps) / model.layers;
  const double share = decoded_tokens > 0 ? 1 / decoded_tokens : 0;
  const auto selected = static_cast<double>(stats.selected_rows * model.head.row_bytes());
  fetched_per_token = static_cast<double>(stats.fetched_bytes) * share;
  unaided_per_token = selected * share;
  full_per_token = static_cast<double>(stats.full_attention_bytes) * share;
}

}  // namespace passband
