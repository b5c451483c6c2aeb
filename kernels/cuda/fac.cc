#include "kernels/cuda/fac.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/cuda/gather.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

constexpr int kMaxProblems = 65535;
constexpr uint32_t kBlockRows = 64;  // that a block's warps take at a time
constexpr uint32_t kMaxBlocks = 8;

bool IsFloatOrBf16(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBf16; }

absl::Status CheckShape(const FacArgs& args) {
  if (args.shape.dtype != DType::kBf16) return absl::UnimplementedError("fac: rows are bf16");
  constexpr int kDims[] = {64, 80, 96, 128, 256};
  if (std::find(std::begin(kDims), std::end(kDims), args.shape.head_dim) == std::end(kDims)) {
    return absl::UnimplementedError("fac: head_dim " + std::to_string(args.shape.head_dim) +
                                    "; 64, 80, 96, 128 and 256 are supported on a GPU");
  }
  if (args.group < 1) return absl::InvalidArgumentError("fac: an empty group of query heads");
  if (args.group > kMaxFacGroup) {
    return absl::UnimplementedError("fac: " + std::to_string(args.group) +
                                    " query heads a kv head; at most 8 are supported on a GPU");
  }
  if (args.problems < 1 || args.problems > kMaxProblems || args.max_rows == 0) {
    return absl::InvalidArgumentError("fac: 1 to 65535 problems, of at least a row");
  }
  if (!IsFloatOrBf16(args.query_dtype) || !IsFloatOrBf16(args.out_dtype)) {
    return absl::InvalidArgumentError("fac: queries and out are float or bf16");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FacPlan> PlanFac(const FacArgs& args, const DeviceInfo& device) {
  if (auto status = CheckShape(args); !status.ok()) return status;
  FacPlan plan;
  if (!device.has_clusters()) return plan;
  const auto problems = static_cast<uint32_t>(args.problems);
  const auto enough = static_cast<uint32_t>(device.multiprocessors) * 4;
  uint32_t blocks = 1;
  while (blocks < kMaxBlocks && blocks * kBlockRows < args.max_rows && problems * blocks < enough) {
    blocks *= 2;
  }
  plan.blocks = static_cast<int>(blocks);
  return plan;
}

absl::Status Fac(const FacArgs& args, const FacPlan& plan, StreamHandle stream) {
  if (auto status = CheckShape(args); !status.ok()) return status;
  const bool by_index = args.pages != nullptr;
  if (args.counts == nullptr || args.queries == nullptr || args.out == nullptr ||
      (args.rows != nullptr) == by_index) {
    return absl::InvalidArgumentError("fac: counts, queries, out, and rows or else pages");
  }
  if (by_index && args.page_shift > 31) {
    return absl::InvalidArgumentError("fac: pages of at most 2^31 rows");
  }
  return FromCuda(LaunchFac(args, plan, stream), "fac");
}

absl::Status GatherRows(const GatherArgs& args, StreamHandle stream) {
  if (args.max_rows == 0) return absl::OkStatus();
  if (args.rows == nullptr || args.out == nullptr || args.row_bytes == 0) {
    return absl::InvalidArgumentError("gather: rows, their size, and a place for them");
  }
  if ((args.row_bytes | reinterpret_cast<uintptr_t>(args.out)) % 16 != 0) {
    return absl::InvalidArgumentError("gather: rows and their place are multiples of 16 bytes");
  }
  return FromCuda(LaunchGather(args, stream), "gather rows");
}

}  // namespace passband::kernels::cuda
