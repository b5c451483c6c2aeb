#include "sdk/device/missing_rows.h"

#include <algorithm>
#include <cstring>

namespace passband {

using kernels::cuda::Memory;
using kernels::cuda::MemoryKind;
using kernels::cuda::MissingRow;
using kernels::cuda::RowCopy;

StatusOr<std::unique_ptr<MissingRows>> MissingRows::Create(const DeviceShape& shape,
                                                           uint32_t problems, uint32_t budget) {
  std::unique_ptr<MissingRows> out(new MissingRows(shape, problems, budget));
  const size_t rows = size_t{problems} * budget;
  PASSBAND_ASSIGN_OR_RETURN(out->missing_,
                            Memory::Allocate(rows * sizeof(MissingRow), MemoryKind::kPinned));
  PASSBAND_ASSIGN_OR_RETURN(out->counts_, Memory::Allocate(problems * 4, MemoryKind::kPinned));
  PASSBAND_ASSIGN_OR_RETURN(out->copies_,
                            Memory::Allocate(rows * sizeof(RowCopy), MemoryKind::kPinned));
  PASSBAND_ASSIGN_OR_RETURN(out->landing_,
                            Memory::Allocate(rows * shape.row_bytes(), MemoryKind::kPinned));
  return out;
}

Status MissingRows::List(uint32_t layer, std::span<DeviceSequence* const> sequences) {
  const uint32_t kv_heads = shape_.model.kv_heads;
  fetcher_.Begin();
  fetched_to_.clear();
  unstored_.clear();
  copied_ = 0;
  auto* copies = copies_.data<RowCopy>();
  for (uint32_t problem = 0; problem < sequences.size() * kv_heads; ++problem) {
    DeviceSequence& sequence = *sequences[problem / kv_heads];
    const DeviceSequence::Layer& state = sequence.layer(layer);
    const uint32_t head = problem % kv_heads;
    std::byte* slots = sequence.hot(layer, head).rows;
    fetcher_.OpenGroup(sequence.id(), layer, head);
    for (uint32_t k = 0; k < counts()[problem]; ++k) {
      const MissingRow row = missing()[size_t{problem} * budget_ + k];
      std::byte* to = slots + row.slot * shape_.row_bytes();
      if (row.token >= state.sent) {
        copies[copied_++] = {sequence.tail(layer, head, row.token), to};
        continue;
      }
      if (row.token >= state.stored && (unstored_.empty() || unstored_.back() != &sequence)) {
        unstored_.push_back(&sequence);
      }
      fetcher_.Add(row.token);
      fetched_to_.push_back(to);
    }
  }
  for (DeviceSequence* sequence : unstored_) PASSBAND_RETURN_IF_ERROR(sequence->WaitStored());
  return OkStatus();
}

StatusOr<const std::byte*> MissingRows::Fetch(const SelectionReport& report) {
  fetcher_.Start(*shape_.service, report);
  PASSBAND_ASSIGN_OR_RETURN(const std::byte* rows, fetcher_.Wait());
  if (rows == nullptr) return rows;
  std::memcpy(landing_.data(), rows, fetched_to_.size() * shape_.row_bytes());
  return landing_.data();
}

Status MissingRows::Bring(uint32_t layer, std::span<DeviceSequence* const> sequences,
                          const SelectionReport& selected, EngineStats& stats) {
  PASSBAND_RETURN_IF_ERROR(List(layer, sequences));
  SelectionReport report = selected;
  report.hot_rows =
      report.selected_rows - std::min<uint64_t>(report.selected_rows, copied_ + fetched_to_.size());
  stats.selected_rows += report.selected_rows;
  stats.hot_rows += report.hot_rows;
  stats.tail_rows += copied_;
  stats.full_attention_bytes += report.full_attention_bytes;
  stats.fetched_rows += fetched_to_.size();
  stats.fetched_bytes += fetched_to_.size() * shape_.row_bytes();
  PASSBAND_ASSIGN_OR_RETURN(const std::byte* rows, Fetch(report));
  auto* copies = copies_.data<RowCopy>();
  for (std::byte* to : fetched_to_) {
    copies[copied_++] = {rows, to};
    rows += shape_.row_bytes();
  }
  return kernels::cuda::CopyRows(copies, copied_, shape_.row_bytes(), shape_.stream);
}

}  // namespace passband
