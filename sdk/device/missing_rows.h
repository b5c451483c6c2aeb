// MissingRows: brings the rows that a step misses to their slots on the GPU: those that
// are not sent yet from the tail, the others from the service, in one request.
//
// The rows of an answer are copied to pinned memory, which the GPU reads itself.
//
// Threads    one at a time.
// Ownership  owns its scratch memory.
// Errors     what the service says.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/hot_rows.h"
#include "sdk/device/device_sequence.h"
#include "sdk/engine.h"
#include "sdk/fetcher.h"

namespace passband {

class MissingRows {
 public:
  // For up to `problems` problems of `budget` rows.
  static StatusOr<std::unique_ptr<MissingRows>> Create(const DeviceShape& shape, uint32_t problems,
                                                       uint32_t budget);

  uint32_t problems() const { return problems_; }
  // Where the kernel lists what is missing: pinned.
  kernels::cuda::MissingRow* missing() const { return missing_.data<kernels::cuda::MissingRow>(); }
  uint32_t* counts() const { return counts_.data<uint32_t>(); }

  // The list is complete: enqueues the copies. Adds to `stats`.
  Status Bring(uint32_t layer, std::span<DeviceSequence* const> sequences,
               const SelectionReport& selected, EngineStats& stats);

 private:
  MissingRows(const DeviceShape& shape, uint32_t problems, uint32_t budget)
      : shape_(shape), problems_(problems), budget_(budget), fetcher_(shape.row_bytes()) {}
  Status List(uint32_t layer, std::span<DeviceSequence* const> sequences);
  StatusOr<const std::byte*> Fetch(const SelectionReport& report);

  const DeviceShape shape_;
  const uint32_t problems_;
  const uint32_t budget_;
  Fetcher fetcher_;
  kernels::cuda::Memory missing_, counts_, copies_, landing_;  // pinned
  uint32_t copied_ = 0;                                        // of copies_
  std::vector<std::byte*> fetched_to_;
  std::vector<DeviceSequence*> unstored_;
};

}  // namespace passband
