// FAC on the GPU, for many problems (slices.h) in one launch: exact softmax attention of
// each GQA group over chosen rows, as kernels/fac.h defines it. The blocks of a cluster
// share a problem's rows and put their parts together.
//
// Rows       bf16 [K | V], 16 byte aligned, in device memory or pinned host memory: as
//            pointers, or as token indices into pages of 2^page_shift rows; without
//            indices the pages' first rows, in order (full attention).
// Shapes     queries, out [problems][group][head_dim], float or bf16. rows, indices
//            [problems][max_rows], of which counts[problem] are read; pages
//            [problems][pages_per_problem], pointing at rows of that problem.
// Result     products of bf16 with fp32 sums; float queries and the softmax's weights
//            take part as two bf16 each (16 bits). With no rows, out is zero.
// Stream     one launch, nothing waits; capturable. No workspace.
// Threads    safe.
// Errors     arguments that do not fit are kInvalidArgument, rows that are not bf16, head
//            dims other than 64, 80, 96, 128, 256 and groups above 8 kUnimplemented.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/device.h"
#include "kernels/types.h"

namespace passband::kernels::cuda {

inline constexpr int kMaxFacGroup = 8;

struct FacArgs {
  HeadShape shape;
  int problems = 1;
  int group = 1;
  float scale = 1.0F;
  uint32_t max_rows = 0;
  const uint32_t* counts = nullptr;         // device
  const std::byte* const* rows = nullptr;   // device; or null, and:
  const uint32_t* indices = nullptr;        // device; null: 0, 1, 2 ...
  const std::byte* const* pages = nullptr;  // device
  uint32_t pages_per_problem = 1;
  uint32_t page_shift = 31;
  const void* queries = nullptr;  // device
  DType query_dtype = DType::kF32;
  void* out = nullptr;  // device
  DType out_dtype = DType::kF32;
};

struct FacPlan {
  int blocks = 1;  // that share one problem: a cluster
};
absl::StatusOr<FacPlan> PlanFac(const FacArgs& args, const DeviceInfo& device);

absl::Status Fac(const FacArgs& args, const FacPlan& plan, StreamHandle stream);

}  // namespace passband::kernels::cuda
