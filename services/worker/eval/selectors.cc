#include "services/worker/eval/selectors.h"

#include <cblas.h>

#include <algorithm>
#include <numeric>

namespace passband {

Status ExactSelector::Select(WorkerSequence&, uint32_t, uint32_t kv_head, uint64_t context,
                             const float* queries, std::vector<std::vector<uint32_t>>& sets) {
  PASSBAND_CHECK(keys_ != nullptr);
  if (context > keys_->tokens()) {
    return Error(StatusCode::kOutOfRange, "layer {} has {} keys, not {}", keys_->layer(),
                 keys_->tokens(), context);
  }
  Choose(kv_head, context, queries, sets);
  return OkStatus();
}

void OracleSelector::Choose(uint32_t kv_head, uint64_t context, const float* queries,
                            std::vector<std::vector<uint32_t>>& sets) {
  const uint32_t group = keys_->model().group();
  weights_.resize(group * context);
  scores_.resize(context);
  keys_->Logits(kv_head, context, queries, group, weights_.data());
  SoftmaxRows(weights_.data(), group, context);
  MeanOfRows(weights_.data(), group, context, scores_.data());
  sets.resize(1);
  kernels::SelectTokens(scores_, options_, scratch_, sets[0]);
}

void StreamSelector::Choose(uint32_t, uint64_t context, const float*,
                            std::vector<std::vector<uint32_t>>& sets) {
  const uint64_t kept = std::min<uint64_t>(context, options_.budget);
  const uint64_t sinks = std::min<uint64_t>(kept, options_.sinks);
  sets.assign(1, std::vector<uint32_t>(kept));
  std::iota(sets[0].begin(), sets[0].begin() + static_cast<ptrdiff_t>(sinks), 0U);
  std::iota(sets[0].begin() + static_cast<ptrdiff_t>(sinks), sets[0].end(),
            static_cast<uint32_t>(context - (kept - sinks)));
}

void QuestSelector::BoundsOf(const float* keys, uint64_t page, uint64_t end, float* bounds) const {
  const size_t dim = keys_->model().head.head_dim;
  const float* first = keys + page * kQuestPage * dim;
  std::copy(first, first + dim, bounds);
  std::copy(first, first + dim, bounds + dim);
  for (uint64_t token = page * kQuestPage + 1; token < end; ++token) {
    const float* key = keys + token * dim;
    for (size_t d = 0; d < dim; ++d) {
      bounds[d] = std::min(bounds[d], key[d]);
      bounds[dim + d] = std::max(bounds[dim + d], key[d]);
    }
  }
}

void QuestSelector::BeginLayer(const LayerKeys& keys) {
  EvalSelector::BeginLayer(keys);
  const uint64_t pages = keys.tokens() / kQuestPage;
  const size_t stride = 2 * keys.model().head.head_dim;
  bounds_.resize(keys.model().kv_heads * pages * stride);
  for (uint32_t head = 0; head < keys.model().kv_heads; ++head) {
    for (uint64_t page = 0; page < pages; ++page) {
      BoundsOf(keys.keys(head), page, (page + 1) * kQuestPage,
               bounds_.data() + (head * pages + page) * stride);
    }
  }
}

// max(q * min, q * max) is q * max for q >= 0 and q * min below, so a page's
// bound is one product with [min(q, 0) | max(q, 0)].
void QuestSelector::ScorePages(uint32_t kv_head, uint64_t context, const float* queries) {
  const uint32_t group = keys_->model().group();
  const size_t dim = keys_->model().head.head_dim;
  std::vector<float> halves(group * 2 * dim);
  for (uint32_t head = 0; head < group; ++head) {
    for (size_t d = 0; d < dim; ++d) {
      halves[head * 2 * dim + d] = std::min(queries[head * dim + d], 0.0F);
      halves[(head * 2 + 1) * dim + d] = std::max(queries[head * dim + d], 0.0F);
    }
  }
  const uint64_t full = context / kQuestPage;
  const uint64_t pages = (context + kQuestPage - 1) / kQuestPage;
  const uint64_t known = keys_->tokens() / kQuestPage;
  products_.resize(group * pages);
  const auto multiply = [&](const float* bounds, uint64_t first, uint64_t count) {
    if (count == 0) return;
    const int width = static_cast<int>(2 * dim);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(group),
                static_cast<int>(count), width, 1.0F, halves.data(), width, bounds, width, 0.0F,
                products_.data() + first, static_cast<int>(pages));
  };
  multiply(bounds_.data() + kv_head * known * 2 * dim, 0, full);
  if (pages > full) {
    last_page_.resize(2 * dim);
    BoundsOf(keys_->keys(kv_head), full, context, last_page_.data());
    multiply(last_page_.data(), full, 1);
  }
  scores_.assign(products_.begin(), products_.begin() + static_cast<ptrdiff_t>(pages));
  for (size_t i = pages; i < products_.size(); ++i) {
    scores_[i % pages] = std::max(scores_[i % pages], products_[i]);
  }
}

void QuestSelector::Choose(uint32_t kv_head, uint64_t context, const float* queries,
                           std::vector<std::vector<uint32_t>>& sets) {
  ScorePages(kv_head, context, queries);
  const uint64_t pages = scores_.size();
  const uint64_t sink_pages = (options_.sinks + kQuestPage - 1) / kQuestPage;
  const uint64_t first_recent =
      (context - std::min<uint64_t>(context, options_.recent)) / kQuestPage;
  const auto forced = [&](uint64_t page) {
    return page < sink_pages || (options_.recent > 0 && page >= first_recent);
  };
  std::vector<uint32_t> order(pages);
  std::iota(order.begin(), order.end(), 0U);
  const uint64_t kept = std::min<uint64_t>(pages, options_.budget / kQuestPage);
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(),
                    [&](uint32_t a, uint32_t b) {
                      if (forced(a) != forced(b)) return forced(a);
                      return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a > b;
                    });
  order.resize(kept);
  std::sort(order.begin(), order.end());
  sets.resize(1);
  sets[0].clear();
  for (const uint32_t page : order) {
    const uint64_t end = std::min<uint64_t>(context, (page + 1) * uint64_t{kQuestPage});
    for (uint64_t token = uint64_t{page} * kQuestPage; token < end; ++token) {
      sets[0].push_back(static_cast<uint32_t>(token));
    }
  }
}

void HeadSelector::BeginLayer(const LayerKeys& keys) {
  EvalSelector::BeginLayer(keys);
  indexes_.clear();
  for (uint32_t head = 0; head < keys.model().query_heads; ++head) {
    indexes_.emplace_back(profile_->spec(keys.layer(), head));
  }
}

void HeadSelector::Choose(uint32_t kv_head, uint64_t context, const float* queries,
                          std::vector<std::vector<uint32_t>>& sets) {
  const ModelInfo& model = keys_->model();
  const size_t key_bytes = model.head.key_bytes();
  sets.resize(model.group());
  scores_.resize(context);
  for (uint32_t i = 0; i < model.group(); ++i) {
    kernels::SliceIndex& index = indexes_[kv_head * model.group() + i];
    if (index.tokens() > context) index.Truncate(context);
    index.AppendKeys(keys_->stored(kv_head) + index.tokens() * key_bytes, key_bytes,
                     context - index.tokens());
    kernels::TipScores(index, queries + i * model.head.head_dim, 1, keys_->scale(), tip_,
                       scores_.data());
    kernels::SelectTokens(scores_, options_, scratch_, sets[i]);
  }
}

Status FasaSelector::Select(WorkerSequence& sequence, uint32_t layer, uint32_t kv_head,
                            uint64_t context, const float* queries,
                            std::vector<std::vector<uint32_t>>& sets) {
  const kernels::SliceIndex* index = sequence.slices(layer, kv_head);
  if (index == nullptr || index->tokens() != context) {
    return Error(StatusCode::kOutOfRange, "layer {} has {} slices, not {}", layer,
                 index == nullptr ? 0 : index->tokens(), context);
  }
  scores_.resize(context);
  kernels::TipScores(*index, queries, static_cast<int>(keys_->model().group()), keys_->scale(),
                     tip_, scores_.data());
  sets.resize(1);
  kernels::SelectTokens(scores_, options_, scratch_, sets[0]);
  return OkStatus();
}

}  // namespace passband
