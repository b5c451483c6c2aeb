#include "sdk/sparse_step.h"

#include <algorithm>
#include <cstring>

#include "kernels/fac.h"
#include "sdk/step_append.h"

namespace passband {

SparseStep::SparseStep(KvService* service, const ModelInfo& model, float scale)
    : service_(service),
      model_(model),
      scale_(scale),
      row_bytes_(model.head.row_bytes()),
      fetcher_(row_bytes_) {}

Status SparseStep::Run(uint32_t layer, std::span<const StepItem> items,
                       std::span<SequenceState* const> sequences, TokenSelector& selector,
                       EngineStats& stats) {
  timer_.Lap();
  fetcher_.Begin();
  works_.clear();
  tokens_.clear();
  rows_.clear();
  missing_.clear();
  picks_.clear();
  set_ends_.clear();

  StepAppend append(layer, sequences);
  PASSBAND_RETURN_IF_ERROR(append.SendCompleteBlocks());
  EngineStats step;
  for (size_t i = 0; i < items.size(); ++i) {
    append.Append(items[i].new_rows);
    for (uint32_t head = 0; head < model_.kv_heads; ++head) {
      PASSBAND_RETURN_IF_ERROR(SelectHead(items[i], *sequences[i], layer, head, selector, step));
    }
    step.full_attention_bytes += sequences[i]->layer(layer).length() * model_.kv_heads * row_bytes_;
  }
  step.cache_seconds += timer_.Lap();
  if (fetcher_.rows() > 0) PASSBAND_RETURN_IF_ERROR(EnsureStored(layer, sequences));
  fetcher_.Start(*service_, {.selected_rows = step.selected_rows,
                             .hot_rows = step.hot_rows,
                             .full_attention_bytes = step.full_attention_bytes});
  PASSBAND_ASSIGN_OR_RETURN(const std::byte* fetched, fetcher_.Wait());
  step.fetch_seconds += timer_.Lap();
  Land(fetched);
  step.cache_seconds += timer_.Lap();
  for (const HeadWork& work : works_) Attend(work);
  fetcher_.Release();
  append.Keep();

  stats.steps += items.size();
  stats.selected_rows += step.selected_rows;
  stats.hot_rows += step.hot_rows;
  stats.tail_rows += step.tail_rows;
  stats.fetched_rows += fetcher_.rows();
  stats.fetched_bytes += fetcher_.rows() * row_bytes_;
  stats.full_attention_bytes += step.full_attention_bytes;
  stats.select_seconds += step.select_seconds;
  stats.cache_seconds += step.cache_seconds;
  stats.fetch_seconds += step.fetch_seconds;
  stats.fac_seconds += timer_.Lap();
  return OkStatus();
}

Status SparseStep::SelectHead(const StepItem& item, SequenceState& sequence, uint32_t layer,
                              uint32_t kv_head, TokenSelector& selector, EngineStats& stats) {
  SequenceState::Layer& state = sequence.layer(layer);
  const size_t query_offset = size_t{kv_head} * model_.group() * model_.head.head_dim;
  HeadWork work;
  work.cache = &state.heads[kv_head].cache;
  work.queries = item.queries + query_offset;
  work.out = item.out + query_offset;
  stats.cache_seconds += timer_.Lap();
  PASSBAND_RETURN_IF_ERROR(
      selector.Select(*item.sequence, layer, kv_head, state.length(), work.queries, sets_));
  stats.select_seconds += timer_.Lap();
  PASSBAND_RETURN_IF_ERROR(CheckSets(state.length()));

  work.first_row = tokens_.size();
  if (sets_.size() == 1) {
    tokens_.insert(tokens_.end(), sets_[0].begin(), sets_[0].end());
  } else {
    MergeSets(work);
  }
  work.rows = tokens_.size() - work.first_row;
  fetcher_.OpenGroup(sequence.id(), layer, kv_head);
  Classify(state, kv_head, work, stats);
  works_.push_back(work);
  return OkStatus();
}

Status SparseStep::CheckSets(uint64_t context) const {
  if (sets_.size() != 1 && sets_.size() != model_.group()) {
    return Error(StatusCode::kInvalidArgument, "the selector gave {} sets for a group of {}",
                 sets_.size(), model_.group());
  }
  for (const std::vector<uint32_t>& set : sets_) {
    bool rising = set.empty() || set.back() < context;
    for (size_t i = 1; i < set.size(); ++i) rising &= set[i - 1] < set[i];
    if (!rising) {
      return Error(StatusCode::kInvalidArgument,
                   "the selector's tokens are not rising, or not below the context of {}", context);
    }
  }
  return OkStatus();
}

// The union is fetched; each query head then picks its own out of it.
void SparseStep::MergeSets(HeadWork& work) {
  merged_.clear();
  for (const std::vector<uint32_t>& set : sets_) {
    merged_.insert(merged_.end(), set.begin(), set.end());
  }
  std::sort(merged_.begin(), merged_.end());
  merged_.erase(std::unique(merged_.begin(), merged_.end()), merged_.end());
  work.own_sets = true;
  work.first_set = set_ends_.size();
  work.first_pick = picks_.size();
  for (const std::vector<uint32_t>& set : sets_) {
    uint32_t position = 0;
    for (const uint32_t token : set) {
      while (merged_[position] != token) ++position;
      picks_.push_back(position);
    }
    set_ends_.push_back(picks_.size());
  }
  tokens_.insert(tokens_.end(), merged_.begin(), merged_.end());
}

void SparseStep::Classify(const SequenceState::Layer& layer, uint32_t kv_head, HeadWork& work,
                          EngineStats& stats) {
  const TailBuffer& tail = layer.tail;
  const size_t end = work.first_row + work.rows;
  const size_t first_in_tail =
      static_cast<size_t>(std::lower_bound(tokens_.begin() + static_cast<ptrdiff_t>(work.first_row),
                                           tokens_.end(), tail.begin()) -
                          tokens_.begin());
  rows_.resize(end);
  work.first_missing = missing_.size();
  work.cache->BeginStep();
  for (size_t i = work.first_row; i < first_in_tail; ++i) {
    rows_[i] = work.cache->Select(tokens_[i]);
    if (rows_[i] != nullptr) continue;
    missing_.push_back(static_cast<uint32_t>(i));
    fetcher_.Add(tokens_[i]);
  }
  for (size_t i = first_in_tail; i < end; ++i) rows_[i] = tail.row(kv_head, tokens_[i]);
  work.missing = missing_.size() - work.first_missing;
  stats.selected_rows += first_in_tail - work.first_row;
  stats.hot_rows += first_in_tail - work.first_row - work.missing;
  stats.tail_rows += end - first_in_tail;
}

Status SparseStep::EnsureStored(uint32_t layer, std::span<SequenceState* const> sequences) {
  for (size_t i = 0; i < works_.size(); ++i) {
    const HeadWork& work = works_[i];
    if (work.missing == 0) continue;
    const uint32_t newest = tokens_[missing_[work.first_missing + work.missing - 1]];
    SequenceState& sequence = *sequences[i / model_.kv_heads];
    PASSBAND_RETURN_IF_ERROR(sequence.EnsureStored(layer, uint64_t{newest} + 1));
  }
  return OkStatus();
}

void SparseStep::Land(const std::byte* fetched) {
  for (const HeadWork& work : works_) {
    for (size_t i = work.first_missing; i < work.first_missing + work.missing; ++i) {
      const std::byte* landed = fetched + i * row_bytes_;
      std::byte* slot = work.cache->Insert(tokens_[missing_[i]]);
      if (slot != nullptr) std::memcpy(slot, landed, row_bytes_);
      rows_[missing_[i]] = slot != nullptr ? slot : landed;
    }
  }
}

void SparseStep::Attend(const HeadWork& work) {
  const std::span<const std::byte* const> rows(rows_.data() + work.first_row, work.rows);
  kernels::FacParams params{.shape = model_.head,
                            .group = static_cast<int>(model_.group()),
                            .scale = scale_,
                            .queries = work.queries,
                            .out = work.out};
  if (!work.own_sets) {
    kernels::Fac(params, rows);
    return;
  }
  params.group = 1;
  size_t pick = work.first_pick;
  for (uint32_t head = 0; head < model_.group(); ++head) {
    set_rows_.clear();
    for (; pick < set_ends_[work.first_set + head]; ++pick) set_rows_.push_back(rows[picks_[pick]]);
    kernels::Fac(params, set_rows_);
    params.queries += model_.head.head_dim;
    params.out += model_.head.head_dim;
  }
}

}  // namespace passband
