#include "sdk/fetcher.h"

namespace passband {

void Fetcher::Begin() {
  Release();
  tokens_.clear();
  groups_.clear();
  group_starts_.clear();
}

void Fetcher::OpenGroup(SequenceId sequence, uint32_t layer, uint32_t kv_head) {
  if (!groups_.empty() && group_starts_.back() == tokens_.size()) {  // nothing came
    groups_.pop_back();
    group_starts_.pop_back();
  }
  groups_.push_back({.sequence = sequence, .layer = layer, .kv_head = kv_head, .tokens = {}});
  group_starts_.push_back(tokens_.size());
}

void Fetcher::Start(KvService& service, const SelectionReport& report) {
  if (tokens_.empty()) {
    service.Report(report);
    return;
  }
  if (group_starts_.back() == tokens_.size()) {
    groups_.pop_back();
    group_starts_.pop_back();
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    const size_t end = i + 1 < groups_.size() ? group_starts_[i + 1] : tokens_.size();
    groups_[i].tokens = {tokens_.data() + group_starts_[i], end - group_starts_[i]};
  }
  pending_ = service.StartFetch(
      {.groups = groups_, .row_bytes = static_cast<uint32_t>(row_bytes_), .report = report});
}

StatusOr<const std::byte*> Fetcher::Wait() {
  if (!pending_) return nullptr;
  PASSBAND_ASSIGN_OR_RETURN(const auto rows, pending_->Wait());
  if (rows.size() != tokens_.size() * row_bytes_) {
    return Error(StatusCode::kInternal, "fetched {} bytes where {} rows of {} were asked for",
                 rows.size(), tokens_.size(), row_bytes_);
  }
  return rows.data();
}

}  // namespace passband
