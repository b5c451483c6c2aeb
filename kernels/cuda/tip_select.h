// TIP and select in one launch, for many problems (slices.h): scores every token from
// its slices as kernels/tip.h defines it, normalised within the GQA group, and chooses
// the tokens as kernels/select.h does. The slices are read once; the weights wait in
// shared memory until the normalisers are known.
//
// Result   per problem min(tokens, budget) token indices in rising order, the same on
//          every run. A selection may differ from the CPU's only between tokens whose
//          scores agree to 1e-5 of them; of equal scores the newer token wins. Weights
//          below 2^-120 of the largest of their 128 tokens (512 on the CPU) count as
//          that, so the order of tokens with next to no weight may differ too.
// Shapes   queries [sequences][kv_heads * group][head_dim], after RoPE; selected
//          [problems][budget]; counts [problems]; scores [problems][max_tokens].
// Stream   one launch, nothing waits; capturable. Token counts are read on the device,
//          so that a graph can be launched again as sequences grow to max_tokens.
// Threads  safe, with a workspace for each call in flight.
// Errors   arguments that do not fit are kInvalidArgument, groups above 8 kUnimplemented.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/slices.h"
#include "kernels/select.h"

namespace passband::kernels::cuda {

inline constexpr int kMaxTipGroup = 8;

struct TipSelectArgs {
  const SliceRecipes* recipes = nullptr;
  int sequences = 1;
  int group = 1;
  float scale = 1.0F;
  SelectOptions select;
  uint32_t max_tokens = 0;
  const std::byte* const* tiles = nullptr;  // device, [problems]
  const uint32_t* tokens = nullptr;         // device, [sequences], each <= max_tokens
  const void* queries = nullptr;            // device
  DType query_dtype = DType::kF32;          // or kBf16
  uint32_t* selected = nullptr;             // device
  uint32_t* counts = nullptr;               // device
  float* scores = nullptr;                  // device; null when not wanted
  std::byte* workspace = nullptr;           // device, plan.workspace_bytes
};

// How a launch is laid out; depends on the args' numbers, not on their pointers.
struct TipSelectPlan {
  int blocks = 1;  // that share one problem: a cluster
  int threads = 256;
  uint32_t held_tiles = 0;     // of a block, whose weights stay in shared memory
  uint32_t spilled_tiles = 0;  // of a block, whose weights go to the workspace
  uint32_t groups = 1024;      // of tokens whose maxima give the floor
  uint32_t candidates = 1024;  // above the floor that are chosen from without a slow path
  size_t shared_bytes = 0;
  size_t workspace_bytes = 0;
};
absl::StatusOr<TipSelectPlan> PlanTipSelect(const TipSelectArgs& args, const DeviceInfo& device);
// The same with a cluster of `blocks` (a power of two, at most 16; 1 before sm_90) and
// room for one or two blocks on a multiprocessor.
absl::StatusOr<TipSelectPlan> PlanTipSelectAs(const TipSelectArgs& args, const DeviceInfo& device,
                                              int blocks, int per_processor);

absl::Status TipSelect(const TipSelectArgs& args, const TipSelectPlan& plan, StreamHandle stream);

// The weights of one tile, as a block keeps them: of kHeads heads for each of 128 tokens
// in bf16, then for each head the exponent that was taken off and the factor that
// normalises, then a bit for each token. kHeads is 4, or 8 for larger groups.
constexpr uint32_t PaddedHeads(int group) { return group <= 4 ? 4 : 8; }
constexpr uint32_t RecordBytes(uint32_t heads) {
  return kTileTokens * heads * 2 + heads * 8 + kTileTokens / 8;
}

}  // namespace passband::kernels::cuda
