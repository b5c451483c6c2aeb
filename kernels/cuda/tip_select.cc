#include "kernels/cuda/tip_select.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

constexpr int kMaxProblems = 65535;
constexpr int kMaxBlocks = 16;
constexpr uint32_t kLeastTiles = 8;          // of a block, to be worth one
constexpr size_t kStaticShared = 20 << 10;   // the kernel's own shared memory, at most
constexpr size_t kReservedShared = 1 << 10;  // of a block, by the system
constexpr uint32_t kMostTokens = 1U << 30;

absl::Status CheckArgs(const TipSelectArgs& args) {
  const SelectOptions& select = args.select;
  if (args.recipes == nullptr || args.max_tokens == 0 || args.max_tokens > kMostTokens) {
    return absl::InvalidArgumentError("tip: recipes, and max_tokens of 1 to 2^30");
  }
  if (args.sequences < 1 || args.sequences > kMaxProblems / args.recipes->kv_heads()) {
    return absl::InvalidArgumentError("tip: 1 to 65535 problems at a time");
  }
  if (args.group < 1) return absl::InvalidArgumentError("tip: an empty group of query heads");
  if (args.group > kMaxTipGroup) {
    return absl::UnimplementedError("tip: " + std::to_string(args.group) +
                                    " query heads a kv head; at most 8 are supported on a GPU");
  }
  if (select.budget == 0 || uint64_t{select.sinks} + select.recent > select.budget) {
    return absl::InvalidArgumentError("tip: the budget is less than sinks and recent tokens");
  }
  if (args.query_dtype != DType::kF32 && args.query_dtype != DType::kBf16) {
    return absl::InvalidArgumentError("tip: queries are float or bf16");
  }
  return absl::OkStatus();
}

uint32_t TilesOf(const TipSelectArgs& args) {
  return (args.max_tokens + kTileTokens - 1) / kTileTokens;
}
uint32_t ProblemsOf(const TipSelectArgs& args) {
  return static_cast<uint32_t>(args.sequences * args.recipes->kv_heads());
}

// Microseconds, by a rough model: every wave of problems has a start and an end that keep
// nothing busy, and every tile its work, more when its weights are spilled.
double EstimateTime(const TipSelectArgs& args, const TipSelectPlan& plan, uint32_t active,
                    const DeviceInfo& device) {
  constexpr double kOfWave = 12;
  constexpr double kOfTile = 0.08;
  const uint32_t problems = ProblemsOf(args);
  const auto blocks = static_cast<uint32_t>(plan.blocks);
  const uint32_t waves = (problems + active - 1) / active;
  const double resident = std::min(problems, active) * static_cast<double>(blocks);
  const double sharing = std::max(1.0, resident / device.multiprocessors);
  const double tiles = plan.held_tiles + 2.5 * plan.spilled_tiles;
  const double slowness = plan.threads == 256 && sharing < 2 ? 1.6 : 1.0;
  return waves * (kOfWave + kOfTile * tiles * std::max(slowness, sharing) + 0.12 * blocks);
}

}  // namespace

absl::StatusOr<TipSelectPlan> PlanTipSelectAs(const TipSelectArgs& args, const DeviceInfo& device,
                                              int blocks, int per_processor) {
  if (auto status = CheckArgs(args); !status.ok()) return status;
  const uint32_t record = RecordBytes(PaddedHeads(args.group));
  const uint32_t wanted = args.select.budget - args.select.sinks - args.select.recent;
  const auto block_count = static_cast<uint32_t>(blocks);
  const uint32_t of_block = (TilesOf(args) + block_count - 1) / block_count;
  TipSelectPlan plan;
  plan.blocks = blocks;
  plan.threads = per_processor == 1 ? 512 : 256;
  plan.groups = std::clamp(std::bit_ceil(4 * wanted + 1), 1024U, 4096U);
  plan.groups = std::min(plan.groups, block_count * static_cast<uint32_t>(plan.threads) * 4);
  plan.candidates = std::clamp(std::bit_ceil(2 * wanted + 1), 1024U, 8192U);
  const size_t lists = 4 * (size_t{2} * plan.candidates +
                            std::max<size_t>(plan.groups, size_t{2} * plan.candidates));
  const size_t room = device.shared_bytes / static_cast<size_t>(per_processor) -
                      (per_processor > 1 ? kReservedShared : 0);
  if (room < lists + kStaticShared + record) {
    return absl::ResourceExhaustedError("tip: a budget of " + std::to_string(args.select.budget) +
                                        " needs " + std::to_string(lists + kStaticShared + record) +
                                        " bytes of shared memory, there are " +
                                        std::to_string(room));
  }
  const size_t held = (room - lists - kStaticShared) / record;
  plan.held_tiles = static_cast<uint32_t>(std::min<size_t>(of_block, held));
  plan.spilled_tiles = of_block - plan.held_tiles;
  plan.shared_bytes = lists + size_t{plan.held_tiles} * record;
  plan.workspace_bytes = size_t{ProblemsOf(args)} * block_count * plan.spilled_tiles * record;
  return plan;
}

absl::StatusOr<TipSelectPlan> PlanTipSelect(const TipSelectArgs& args, const DeviceInfo& device) {
  const int most_blocks = device.has_clusters() ? kMaxBlocks : 1;
  absl::StatusOr<TipSelectPlan> best = PlanTipSelectAs(args, device, 1, 1);
  if (!best.ok()) return best;
  double least = std::numeric_limits<double>::infinity();
  for (int blocks = 1; blocks <= most_blocks; blocks *= 2) {
    if (blocks > 1 && TilesOf(args) / static_cast<uint32_t>(blocks) < kLeastTiles) break;
    for (const int per_processor : {1, 2}) {
      const auto plan = PlanTipSelectAs(args, device, blocks, per_processor);
      if (!plan.ok()) continue;
      int active = 0;
      const cudaError_t asked = LaunchTipSelect(args, *plan, &active, nullptr);
      if (asked != cudaSuccess) return FromCuda(asked, "tip: ask for the occupancy");
      if (active < 1) continue;
      const double time = EstimateTime(args, *plan, static_cast<uint32_t>(active), device);
      if (time < least) {
        least = time;
        best = plan;
      }
    }
  }
  return best;
}

absl::Status TipSelect(const TipSelectArgs& args, const TipSelectPlan& plan, StreamHandle stream) {
  if (auto status = CheckArgs(args); !status.ok()) return status;
  if (args.tiles == nullptr || args.tokens == nullptr || args.queries == nullptr ||
      args.selected == nullptr || args.counts == nullptr) {
    return absl::InvalidArgumentError("tip: tiles, tokens, queries and places for the result");
  }
  if (plan.workspace_bytes > 0 && args.workspace == nullptr) {
    return absl::InvalidArgumentError("tip: a workspace of " +
                                      std::to_string(plan.workspace_bytes) + " bytes is needed");
  }
  return FromCuda(LaunchTipSelect(args, plan, nullptr, stream), "tip and select");
}

}  // namespace passband::kernels::cuda
