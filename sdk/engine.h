// Engine: sparse attention of one model against a KvService.
//
// One decode step of one layer, for a whole batch:
//   tip -> select -> row cache -> one fetch -> fac
//
// The engine holds, for each sequence, slices of every key, a fixed number of
// hot rows a head, and the newest tokens (the tail); never the full K/V. New
// rows go to the tail at once and to the service in whole blocks behind the
// caller's back.
//
// Units      tokens; rows as [K | V] (kernels/types.h).
// Threads    an Engine may be shared; a WorkerSequence is used by one thread at
//            a time.
// Ownership  shares the profile, borrows the service; both outlive sequences.
// Errors     what KvService says; kInvalidArgument for shapes; kOutOfRange for
//            a layer that is not at the given position.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/select.h"
#include "sdk/kv_service.h"
#include "sdk/worker_sequence.h"

namespace passband {

struct EngineOptions {
  kernels::SelectOptions select;
  uint32_t hot_rows = 0;  // row slots a (layer, kv head); 0: 4 x budget
  float scale = 0;        // of the logits; 0: 1 / sqrt(head_dim)
};

// Decides which tokens a step attends to. The engine's own is TIP + select;
// evaluation brings others.
class TokenSelector {
 public:
  virtual ~TokenSelector() = default;
  // Fills `sets` with one rising set of tokens < context for the whole group,
  // or one for each of its query heads. queries: [group][head_dim].
  virtual Status Select(WorkerSequence& sequence, uint32_t layer, uint32_t kv_head,
                        uint64_t context, const float* queries,
                        std::vector<std::vector<uint32_t>>& sets) = 0;
};

// One sequence's part in a step of one layer.
struct StepItem {
  WorkerSequence* sequence = nullptr;
  const float* queries = nullptr;       // [query_heads][head_dim], after RoPE
  const std::byte* new_rows = nullptr;  // [kv_head][row_bytes]: this token's K | V
  float* out = nullptr;                 // [query_heads][head_dim]
};

struct EngineStats {
  uint64_t steps = 0;          // (sequence, layer) steps
  uint64_t selected_rows = 0;  // outside the tail
  uint64_t hot_rows = 0;       // of these, in the row cache
  uint64_t tail_rows = 0;      // selected rows served from the tail
  uint64_t fetched_rows = 0;
  uint64_t fetched_bytes = 0;
  uint64_t full_attention_bytes = 0;  // what full attention would have read
  double tip_seconds = 0, select_seconds = 0, cache_seconds = 0, fetch_seconds = 0, fac_seconds = 0;
};

class Engine {
 public:
  // `profile` may be null when only full attention or other selectors are used.
  static StatusOr<std::unique_ptr<Engine>> Create(KvService* service, const ModelInfo& model,
                                                  std::shared_ptr<const Profile> profile,
                                                  const EngineOptions& options);
  ~Engine();

  // Opens a sequence for `token_ids`. A cached prefix is attached: its slices
  // are fetched, its rows are not. attached_tokens() says how much; it is less
  // than token_ids.size(), so that there is a token to compute.
  StatusOr<std::unique_ptr<WorkerSequence>> Open(std::span<const uint32_t> token_ids,
                                                 bool share_prefix = true);
  // A second sequence that shares the first `tokens` tokens (flushes first).
  StatusOr<std::unique_ptr<WorkerSequence>> Fork(WorkerSequence& parent, uint64_t tokens);

  // Takes the rows of tokens [first, first + count) of one layer, computed
  // elsewhere (prefill): [kv_head][count][row_bytes]. first must be the layer's
  // length. Slices are cut, rows are sent; nothing of them stays but the tail.
  Status AppendRows(WorkerSequence& sequence, uint32_t layer, uint64_t first, uint64_t count,
                    const std::byte* rows);

  // Sparse attention of one new token for each item: appends its row, selects
  // among all tokens including it, fetches what is missing for the whole batch
  // in one request, attends.
  Status Step(uint32_t layer, std::span<const StepItem> items);
  // The same with another selector.
  Status Step(uint32_t layer, std::span<const StepItem> items, TokenSelector& selector);
  // Exact attention: every row is read from the service.
  Status StepFull(uint32_t layer, std::span<const StepItem> items);

  // Waits until every row of the sequence, the tail included, is stored.
  Status Flush(WorkerSequence& sequence);

  EngineStats stats() const;
  void ResetStats();
  const ModelInfo& model() const;
  const EngineOptions& options() const;
  KvService& service() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
