// Selectors: other ways to choose the tokens of a step, to compare FASA with.
//
//   oracle  the truth: exact scores of every key, softmax per query head,
//           mean over the group; sinks, recent window and the top of the rest
//   stream  sinks and the most recent tokens (StreamingLLM)
//   quest   pages of 16 tokens with the minimum and maximum of every key
//           channel; a page's bound for a query head is
//           sum_d max(q_d * min_d, q_d * max_d); the group's is the largest of
//           its heads'. The pages that hold sinks and recent window, then the
//           best, budget / 16 pages in all; newer wins among equals.
//   heads   the paper's FASA: chunks, scores and a set for every query head
//           (a profile of granularity query_head). With --sinks 0 --recent 0
//           nothing is forced, as in the paper.
//   fasa    what Engine::Step itself does, for looking at its choice
//
// oracle, quest and heads read exact keys of the layer, which only an evaluator
// holds (exact_keys.h); the rows that are then attended to still come through
// the engine.
//
// Threads  one at a time, for one sequence.
// Errors   kOutOfRange when asked about tokens that the layer does not have.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/select.h"
#include "kernels/tip.h"
#include "profile/profile.h"
#include "sdk/engine.h"
#include "services/worker/eval/exact_keys.h"

namespace passband {

class EvalSelector : public TokenSelector {
 public:
  // Before the first Select of a layer; `keys` lives until the next call.
  virtual void BeginLayer(const LayerKeys& keys) { keys_ = &keys; }

 protected:
  const LayerKeys* keys_ = nullptr;
};

// A selector that looks at exact keys, not at what the worker holds.
class ExactSelector : public EvalSelector {
 public:
  Status Select(WorkerSequence& sequence, uint32_t layer, uint32_t kv_head, uint64_t context,
                const float* queries, std::vector<std::vector<uint32_t>>& sets) final;

  // As Select, of a context that is within the layer's keys.
  virtual void Choose(uint32_t kv_head, uint64_t context, const float* queries,
                      std::vector<std::vector<uint32_t>>& sets) = 0;
};

class OracleSelector final : public ExactSelector {
 public:
  explicit OracleSelector(const kernels::SelectOptions& options) : options_(options) {}
  void Choose(uint32_t kv_head, uint64_t context, const float* queries,
              std::vector<std::vector<uint32_t>>& sets) override;

 private:
  const kernels::SelectOptions options_;
  kernels::SelectScratch scratch_;
  std::vector<float> weights_, scores_;
};

class StreamSelector final : public ExactSelector {
 public:
  explicit StreamSelector(const kernels::SelectOptions& options) : options_(options) {}
  void Choose(uint32_t kv_head, uint64_t context, const float* queries,
              std::vector<std::vector<uint32_t>>& sets) override;

 private:
  const kernels::SelectOptions options_;
};

inline constexpr uint32_t kQuestPage = 16;

class QuestSelector final : public ExactSelector {
 public:
  explicit QuestSelector(const kernels::SelectOptions& options) : options_(options) {}
  void BeginLayer(const LayerKeys& keys) override;
  void Choose(uint32_t kv_head, uint64_t context, const float* queries,
              std::vector<std::vector<uint32_t>>& sets) override;

 private:
  // Bounds of tokens [page * 16, end), [min | max].
  void BoundsOf(const float* keys, uint64_t page, uint64_t end, float* bounds) const;
  void ScorePages(uint32_t kv_head, uint64_t context, const float* queries);

  const kernels::SelectOptions options_;
  std::vector<float> bounds_;  // [kv_head][page][min | max]
  std::vector<float> last_page_, products_, scores_;
};

class HeadSelector final : public ExactSelector {
 public:
  HeadSelector(std::shared_ptr<const Profile> profile, const kernels::SelectOptions& options)
      : profile_(std::move(profile)), options_(options) {}
  void BeginLayer(const LayerKeys& keys) override;
  void Choose(uint32_t kv_head, uint64_t context, const float* queries,
              std::vector<std::vector<uint32_t>>& sets) override;

 private:
  const std::shared_ptr<const Profile> profile_;
  const kernels::SelectOptions options_;
  std::vector<kernels::SliceIndex> indexes_;  // [query head]
  kernels::TipScratch tip_;
  kernels::SelectScratch scratch_;
  std::vector<float> scores_;
};

class FasaSelector final : public EvalSelector {
 public:
  explicit FasaSelector(const kernels::SelectOptions& options) : options_(options) {}
  Status Select(WorkerSequence& sequence, uint32_t layer, uint32_t kv_head, uint64_t context,
                const float* queries, std::vector<std::vector<uint32_t>>& sets) override;

 private:
  const kernels::SelectOptions options_;
  kernels::TipScratch tip_;
  kernels::SelectScratch scratch_;
  std::vector<float> scores_;
};

}  // namespace passband
