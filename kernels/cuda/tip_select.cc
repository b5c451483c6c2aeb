#include "kernels/cuda/tip_select.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

constexpr int kMaxProblems = 65535;
constexpr uint32_t kMaxBlocks = 16;
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

// How many problems run at a time: clusters do not cross the device's parts, of about 18
// multiprocessors.
uint32_t ActiveProblems(uint32_t blocks, uint32_t per_processor, const DeviceInfo& device) {
  const auto processors = static_cast<uint32_t>(device.multiprocessors);
  const uint32_t parts = std::max(1U, processors / 18);
  if (blocks <= 4) return processors * per_processor / blocks;
  return std::max(1U, parts * (blocks == 8 ? 2 : 1) * per_processor);
}

struct Layout {
  uint32_t blocks = 1;
  uint32_t per_processor = 1;
};

// The fastest by a rough model, in microseconds: every wave of problems has a start and
// an end that keep nothing busy, and each tile its work. held[n - 1] tiles fit a block
// when n share a multiprocessor; those that do not fit cost more.
Layout LayoutFor(uint32_t problems, uint32_t tiles, const uint32_t (&held)[2],
                 const DeviceInfo& device) {
  constexpr double kOfWave = 8;
  constexpr double kOfTile = 0.06;
  Layout best;
  double least = 1e30;
  const uint32_t most_blocks = device.has_clusters() ? kMaxBlocks : 1;
  for (uint32_t blocks = 1; blocks <= most_blocks; blocks *= 2) {
    if (blocks > 1 && tiles / blocks < kLeastTiles) break;
    for (uint32_t per_processor = 1; per_processor <= 2; ++per_processor) {
      const uint32_t of_block = (tiles + blocks - 1) / blocks;
      const uint32_t fit = held[per_processor - 1];
      if (per_processor == 2 && of_block > fit) continue;
      const uint32_t active = ActiveProblems(blocks, per_processor, device);
      const uint32_t waves = (problems + active - 1) / active;
      const auto processors = static_cast<uint32_t>(device.multiprocessors);
      const uint32_t shared = per_processor == 2 && problems * blocks > processors ? 2 : 1;
      const double work = of_block + 2.0 * (of_block > fit ? of_block - fit : 0);
      const double time = waves * (kOfWave + kOfTile * shared * work + 0.05 * blocks);
      if (time < least) {
        least = time;
        best = {blocks, per_processor};
      }
    }
  }
  return best;
}

}  // namespace

absl::StatusOr<TipSelectPlan> PlanTipSelect(const TipSelectArgs& args, const DeviceInfo& device) {
  if (auto status = CheckArgs(args); !status.ok()) return status;
  const auto problems = static_cast<uint32_t>(args.sequences * args.recipes->kv_heads());
  const uint32_t tiles = (args.max_tokens + kTileTokens - 1) / kTileTokens;
  const uint32_t record = RecordBytes(PaddedHeads(args.group));
  const uint32_t wanted = args.select.budget - args.select.sinks - args.select.recent;
  TipSelectPlan plan;
  plan.groups = std::clamp(std::bit_ceil(4 * wanted + 1), 1024U, 4096U);
  plan.candidates = std::clamp(std::bit_ceil(2 * wanted + 1), 1024U, 8192U);
  const size_t lists = 4 * (size_t{2} * plan.candidates +
                            std::max<size_t>(plan.groups, size_t{2} * plan.candidates));
  const size_t half = device.shared_bytes / 2;
  const size_t fixed = lists + kStaticShared;
  if (device.shared_bytes < fixed + record) {
    return absl::InvalidArgumentError("tip: a budget of " + std::to_string(args.select.budget) +
                                      " needs more shared memory than the device has");
  }
  const auto held_in = [&](size_t bytes) {
    return bytes > fixed ? static_cast<uint32_t>((bytes - fixed) / record) : 0U;
  };
  const uint32_t held[2] = {held_in(device.shared_bytes),
                            held_in(half - std::min(half, kReservedShared))};
  const Layout layout = LayoutFor(problems, tiles, held, device);
  const uint32_t blocks = layout.blocks;
  const uint32_t of_block = (tiles + blocks - 1) / blocks;
  plan.blocks = static_cast<int>(blocks);
  plan.threads = layout.per_processor == 1 ? 512 : 256;
  plan.groups = std::min(plan.groups, blocks * static_cast<uint32_t>(plan.threads) * 4);
  plan.held_tiles = std::min(of_block, held[layout.per_processor - 1]);
  plan.spilled_tiles = of_block - plan.held_tiles;
  plan.shared_bytes = lists + size_t{plan.held_tiles} * record;
  plan.workspace_bytes = size_t{problems} * blocks * plan.spilled_tiles * record;
  return plan;
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
  return FromCuda(LaunchTipSelect(args, plan, stream), "tip and select");
}

}  // namespace passband::kernels::cuda
