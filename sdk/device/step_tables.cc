#include "sdk/device/step_tables.h"

#include <algorithm>

namespace passband {
namespace {

using kernels::cuda::Memory;

// [layer][sequence][kv_head] of what `of` says.
template <class T, class Of>
StatusOr<Memory> Upload(const DeviceShape& shape, std::span<DeviceSequence* const> sequences,
                        Of of) {
  std::vector<T> values;
  for (uint32_t layer = 0; layer < shape.model.layers; ++layer) {
    for (DeviceSequence* sequence : sequences) {
      for (uint32_t head = 0; head < shape.model.kv_heads; ++head) {
        values.push_back(of(*sequence, layer, head));
      }
    }
  }
  PASSBAND_ASSIGN_OR_RETURN(Memory memory, Memory::Allocate(values.size() * sizeof(T)));
  PASSBAND_RETURN_IF_ERROR(memory.CopyIn(values.data(), values.size() * sizeof(T), shape.stream));
  return memory;
}

}  // namespace

StatusOr<StepTables> StepTables::Create(const DeviceShape& shape,
                                        std::span<DeviceSequence* const> sequences) {
  StepTables out;
  out.problems_ = static_cast<uint32_t>(sequences.size()) * shape.model.kv_heads;
  out.sequences_.assign(sequences.begin(), sequences.end());
  if (shape.has_rows()) {
    PASSBAND_ASSIGN_OR_RETURN(
        out.rows_, Upload<std::byte*>(shape, sequences,
                                      [](const DeviceSequence& s, uint32_t layer, uint32_t head) {
                                        return s.rows(layer, head);
                                      }));
  }
  if (shape.has_slices()) {
    PASSBAND_ASSIGN_OR_RETURN(
        out.tiles_, Upload<std::byte*>(shape, sequences,
                                       [](const DeviceSequence& s, uint32_t layer, uint32_t head) {
                                         return s.tiles(layer, head);
                                       }));
  }
  if (shape.method == DeviceMethod::kFasaM) {
    PASSBAND_ASSIGN_OR_RETURN(
        out.hot_, Upload<kernels::cuda::HotSlots>(
                      shape, sequences, [](const DeviceSequence& s, uint32_t layer, uint32_t head) {
                        return s.hot(layer, head);
                      }));
  }
  return out;
}

bool StepTables::Matches(std::span<DeviceSequence* const> sequences) const {
  return std::equal(sequences.begin(), sequences.end(), sequences_.begin(), sequences_.end());
}

}  // namespace passband
