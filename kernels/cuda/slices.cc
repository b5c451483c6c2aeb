#include "kernels/cuda/slices.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

constexpr int kMaxGridY = 65535;

absl::Status CheckSpec(const SliceSpec& spec, const SliceSpec& first) {
  const HeadShape& shape = spec.shape;
  if (!(shape == first.shape) || spec.encoding != first.encoding ||
      spec.chunks.size() != first.chunks.size()) {
    return absl::InvalidArgumentError("the kv heads of a layer need one shape of slices");
  }
  if (shape.head_dim == 0 || shape.head_dim > kMaxHeadDim || shape.rotary_dim > shape.head_dim) {
    return absl::InvalidArgumentError("a head of " + std::to_string(shape.head_dim) +
                                      " dimensions is not supported, at most 256 are");
  }
  if (spec.chunks.empty() || spec.chunks.size() > kMaxChunks) {
    return absl::InvalidArgumentError("a slice has 1 to 128 chunks");
  }
  for (const uint16_t chunk : spec.chunks) {
    if (chunk >= shape.chunks()) return absl::InvalidArgumentError("a chunk past the rotary dims");
  }
  if (!IsIntEncoding(spec.encoding)) return absl::OkStatus();
  const auto components = static_cast<size_t>(spec.components());
  if (spec.mean.size() != components || spec.deviation.size() != components ||
      std::any_of(spec.deviation.begin(), spec.deviation.end(), [](float d) { return !(d > 0); })) {
    return absl::InvalidArgumentError("each component needs a mean and a positive deviation");
  }
  return absl::OkStatus();
}

DeviceRecipe RecipeOf(const SliceSpec& spec) {
  DeviceRecipe recipe = {};
  const size_t chunks = spec.chunks.size();
  for (size_t i = 0; i < chunks; ++i) {
    const ChunkDims dims = DimsOfChunk(spec.shape, spec.chunks[i]);
    recipe.dims[i] = static_cast<uint16_t>(dims.first);
    recipe.dims[chunks + i] = static_cast<uint16_t>(dims.second);
  }
  std::fill(std::begin(recipe.deviation), std::end(recipe.deviation), 1.0F);
  std::copy(spec.mean.begin(), spec.mean.end(), recipe.mean);
  std::copy(spec.deviation.begin(), spec.deviation.end(), recipe.deviation);
  return recipe;
}

absl::Status CheckIndex(const IndexArgs& args) {
  if (args.recipes == nullptr || args.begin == nullptr || args.tiles == nullptr) {
    return absl::InvalidArgumentError("slice index: recipes, begin and tiles are needed");
  }
  if (args.sequences < 1 || args.sequences * args.recipes->kv_heads() > kMaxGridY) {
    return absl::InvalidArgumentError("slice index: 1 to 65535 problems at a time");
  }
  return absl::OkStatus();
}

bool IsAligned(const void* pointer, size_t stride, size_t other_stride, size_t bytes) {
  return (reinterpret_cast<uintptr_t>(pointer) | stride | other_stride) % bytes == 0;
}

}  // namespace

absl::StatusOr<SliceRecipes> SliceRecipes::Upload(std::span<const SliceSpec> specs) {
  if (specs.empty()) return absl::InvalidArgumentError("no slice specs");
  std::vector<DeviceRecipe> recipes;
  for (const SliceSpec& spec : specs) {
    if (auto status = CheckSpec(spec, specs.front()); !status.ok()) return status;
    recipes.push_back(RecipeOf(spec));
  }
  SliceRecipes result;
  result.shape_ = {specs.front().shape, specs.front().encoding,
                   static_cast<uint16_t>(specs.front().chunks.size())};
  result.kv_heads_ = static_cast<int>(specs.size());
  const size_t bytes = recipes.size() * sizeof(DeviceRecipe);
  auto memory = Memory::Allocate(bytes);
  if (!memory.ok()) return memory.status();
  result.memory_ = std::move(*memory);
  const cudaError_t copied =
      cudaMemcpy(result.memory_.data(), recipes.data(), bytes, cudaMemcpyHostToDevice);
  if (copied != cudaSuccess) return FromCuda(copied, "upload slice recipes");
  return result;
}

absl::Status EncodeSlices(const EncodeArgs& args, StreamHandle stream) {
  if (args.recipes == nullptr || args.kv_head < 0 || args.kv_head >= args.recipes->kv_heads() ||
      args.keys == nullptr || args.slices == nullptr) {
    return absl::InvalidArgumentError("encode: recipes, a kv head of theirs, keys and slices");
  }
  const SliceShape& shape = args.recipes->shape();
  if (!IsAligned(args.keys, args.key_stride, 0, DTypeBytes(shape.head.dtype))) {
    return absl::InvalidArgumentError("encode: keys are not aligned to their elements");
  }
  if (args.tokens > UINT32_MAX / shape.slice_bytes()) {
    return absl::InvalidArgumentError("encode: more than 4 GiB of slices at a time");
  }
  if (args.tokens == 0) return absl::OkStatus();
  return FromCuda(LaunchEncode(args, stream), "encode slices");
}

absl::Status AppendKeys(const IndexArgs& args, StreamHandle stream) {
  if (auto status = CheckIndex(args); !status.ok()) return status;
  const size_t element = DTypeBytes(args.recipes->shape().head.dtype);
  if (args.data == nullptr ||
      !IsAligned(args.data, args.problem_stride, args.token_stride, element)) {
    return absl::InvalidArgumentError("append keys: keys are not aligned to their elements");
  }
  if (args.tokens == 0) return absl::OkStatus();
  return FromCuda(LaunchAppend(args, IndexSource::kKeys, stream), "append keys");
}

absl::Status AppendSlices(const IndexArgs& args, StreamHandle stream) {
  if (auto status = CheckIndex(args); !status.ok()) return status;
  if (args.data == nullptr) return absl::InvalidArgumentError("append slices: no slices");
  if (args.tokens == 0) return absl::OkStatus();
  return FromCuda(LaunchAppend(args, IndexSource::kSlices, stream), "append slices");
}

absl::Status CopySlices(const IndexArgs& args, std::byte* slices, StreamHandle stream) {
  if (auto status = CheckIndex(args); !status.ok()) return status;
  if (slices == nullptr) return absl::InvalidArgumentError("copy slices: no place for them");
  if (args.tokens == 0) return absl::OkStatus();
  return FromCuda(LaunchCopySlices(args, slices, stream), "copy slices");
}

}  // namespace passband::kernels::cuda
