// StepTables: where the problems of one batch of sequences are, as the kernels want to
// know it: pointers by layer, in device memory.
//
// Threads    immutable after creation.
// Ownership  owns the tables; what they point at is the sequences'.
// Errors     device.h's.
#pragma once

#include <span>
#include <vector>

#include "sdk/device/device_sequence.h"

namespace passband {

class StepTables {
 public:
  static StatusOr<StepTables> Create(const DeviceShape& shape,
                                     std::span<DeviceSequence* const> sequences);
  StepTables() = default;

  bool Matches(std::span<DeviceSequence* const> sequences) const;
  uint32_t problems() const { return problems_; }
  std::byte* const* rows(uint32_t layer) const { return At<std::byte*>(rows_, layer); }
  std::byte* const* tiles(uint32_t layer) const { return At<std::byte*>(tiles_, layer); }
  const kernels::cuda::HotSlots* hot(uint32_t layer) const {
    return At<kernels::cuda::HotSlots>(hot_, layer);
  }

 private:
  template <class T>
  T* At(const kernels::cuda::Memory& memory, uint32_t layer) const {
    return memory.data<T>() + size_t{layer} * problems_;
  }

  uint32_t problems_ = 0;
  std::vector<DeviceSequence*> sequences_;
  kernels::cuda::Memory rows_, tiles_, hot_;  // [layer][problem]
};

}  // namespace passband
