// DeviceEngine::Impl: what is behind a DeviceEngine, for its .cc files: device_engine.cc
// (steps) and device_prompt.cc (prompts and attached prefixes).
//
// Threads    as device_engine.h.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/slices.h"
#include "sdk/device/device_engine.h"
#include "sdk/device/missing_rows.h"
#include "sdk/device/step_tables.h"

namespace passband {

struct DeviceEngine::Impl {
  DeviceShape shape;
  DeviceEngineOptions options;
  std::shared_ptr<const Profile> profile;
  kernels::cuda::DeviceInfo device;
  std::vector<kernels::cuda::SliceRecipes> recipes;  // by layer
  EngineStats stats;

  // Of one step, for up to `scratch_problems` problems:
  uint32_t scratch_problems = 0;
  kernels::cuda::Memory numbers;  // tokens [sequences], begin [sequences], lengths [problems]
  kernels::cuda::Memory selected, counts, row_pointers, workspace;
  std::unique_ptr<MissingRows> missing;
  StepTables tables;
  // Of a prompt: one layer's rows, and what travels to the service.
  kernels::cuda::Memory layer_rows, host_rows;

  kernels::cuda::StreamHandle stream() const { return shape.stream; }
  uint32_t* tokens() const { return numbers.data<uint32_t>(); }
  uint32_t* begin() const { return tokens() + scratch_problems; }
  uint32_t* lengths() const { return tokens() + 2 * scratch_problems; }

  Status Grow(uint32_t problems);
  Status Prepare(std::span<DeviceSequence* const> sequences);
  Status WriteNumbers(uint32_t layer, std::span<DeviceSequence* const> sequences, uint32_t count);
  Status KeepRows(uint32_t layer, const std::byte* rows, size_t stride, uint32_t count);
  Status KeepSlices(uint32_t layer, uint32_t sequences, const std::byte* rows, size_t stride,
                    uint32_t count);
  Status Select(uint32_t layer, const DeviceStep& step, uint32_t max_tokens);
  Status Attend(const DeviceStep& step, uint32_t layer, uint32_t max_tokens);
  Status BringMissing(uint32_t layer, const DeviceStep& step);
  Status CheckStep(uint32_t layer, const DeviceStep& step) const;
  Status SendRows(uint32_t layer, const DevicePrompt& prompt);
  StatusOr<const std::byte*> JoinRows(uint32_t layer, const DevicePrompt& prompt);
  Status AttachSlices(DeviceSequence& sequence, uint64_t tokens);
  Status TakeSlices(DeviceSequence& sequence, uint32_t layer, uint64_t first, uint64_t count);
};

}  // namespace passband
