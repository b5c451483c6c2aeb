// EngineAttention: the reference model's attention, carried out by the SDK's
// engine against the service.
//
//   prompt    exact: dense causal attention over the layer's rows, then
//             Engine::AppendRows; the rows are dropped before the next layer.
//             What came before (an attached prefix, an earlier piece of the
//             prompt) is read back from the service, one layer at a time.
//             Or, for a suffix behind an attached prefix, sparse: every
//             position is an Engine::Step, and nothing is read back.
//   decode    one Engine::Step (or StepFull) for the whole batch.
//
// So the worker's memory is slices, hot rows, tails and one layer's rows
// (peak_layer_bytes), never the full keys and values.
//
// Threads    one caller at a time.
// Ownership  borrows engine, pool, sequences and observer.
// Errors     the engine's; kInvalidArgument for a handle that was not added.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "llama/attention_backend.h"
#include "llama/worker_pool.h"
#include "sdk/engine.h"

namespace passband {

// Sees a layer's rows while they are complete in this process, once per exact
// prompt piece: head_rows[kv_head] holds rows [0, tokens).
class PromptObserver {
 public:
  virtual ~PromptObserver() = default;
  virtual void OnLayer(uint32_t layer, uint64_t tokens,
                       std::span<const std::byte* const> head_rows) = 0;
};

class EngineAttention final : public AttentionBackend {
 public:
  struct Options {
    bool full = false;           // decode with StepFull
    bool sparse_suffix = false;  // what follows an attached prefix is walked with Step
    PromptObserver* observer = nullptr;
    // Called after each layer of a prompt piece with its positions: for progress.
    std::function<void(uint64_t positions)> on_layer = nullptr;
  };

  EngineAttention(Engine& engine, WorkerPool& pool, Options options);

  // Positions below `prompt_tokens` are the prompt's, the others are decoded.
  void Add(uint64_t handle, WorkerSequence& sequence, uint64_t prompt_tokens);
  void Remove(uint64_t handle);

  Status Attend(const AttendArgs& args) override;

  // The most bytes of one layer's rows that were held at a time.
  uint64_t peak_layer_bytes() const { return peak_layer_bytes_; }

 private:
  struct Entry {
    WorkerSequence* sequence = nullptr;
    uint64_t prompt_tokens = 0;
  };

  Status AttendPrompt(uint32_t layer, const Entry& entry, const AttendItem& item);
  Status AttendExact(uint32_t layer, WorkerSequence& sequence, const AttendItem& item);
  Status Walk(uint32_t layer, WorkerSequence& sequence, const AttendItem& item, bool full);
  Status StepBatch(uint32_t layer, std::span<const StepItem> items, bool full);
  // The layer's rows [0, first + count), [kv_head][token]: read back up to
  // `first`, then the item's own.
  StatusOr<std::vector<std::byte>> JoinRows(uint32_t layer, WorkerSequence& sequence,
                                            const AttendItem& item);
  void Dense(const AttendItem& item, std::span<const std::byte* const> head_rows);

  Engine& engine_;
  WorkerPool& pool_;
  const Options options_;
  std::map<uint64_t, Entry> entries_;
  uint64_t peak_layer_bytes_ = 0;
};

// The rows of one position out of an item's [kv_head][count][row_bytes].
void CopyTokenRows(const std::byte* rows, uint32_t kv_heads, uint32_t count, size_t row_bytes,
                   uint32_t index, std::byte* out);

}  // namespace passband
