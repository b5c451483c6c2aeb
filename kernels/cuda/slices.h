// Slices on the GPU: the recipes of a layer, keys to slices (the same bits as the CPU),
// and the slice index of many problems at once. A problem is one (sequence, kv head),
// numbered sequence * kv_heads + kv_head; it reads the recipe of its kv head.
//
// Layout     keys and slices as kernels/slice.h; the index as kernels/cuda/tile.h.
//            Arrays named "device" lie in device memory or pinned host memory.
// Stream     everything is enqueued, nothing waits; capturable.
// Threads    const calls are safe side by side, on streams of their own.
// Ownership  the caller's memory must stay until the work is done.
// Errors     shapes and pointers that do not fit are kInvalidArgument; what is wrong
//            with memory shows at the next synchronisation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/tile.h"
#include "kernels/slice.h"

namespace passband::kernels::cuda {

// A SliceSpec without its vectors.
struct DeviceRecipe {
  uint16_t dims[2 * kMaxChunks];
  float mean[2 * kMaxChunks];
  float deviation[2 * kMaxChunks];
};

class SliceRecipes {
 public:
  // One spec a kv head; they share shape, encoding and number of chunks. Waits.
  static absl::StatusOr<SliceRecipes> Upload(std::span<const SliceSpec> specs);

  const SliceShape& shape() const { return shape_; }
  int kv_heads() const { return kv_heads_; }
  const DeviceRecipe* device() const { return memory_.data<DeviceRecipe>(); }

 private:
  SliceShape shape_;
  int kv_heads_ = 0;
  Memory memory_;
};

// Keys -> slices of one kv head: [tokens][slice_bytes].
struct EncodeArgs {
  const SliceRecipes* recipes = nullptr;
  int kv_head = 0;
  const std::byte* keys = nullptr;
  size_t key_stride = 0;  // bytes from one token to the next
  size_t tokens = 0;
  std::byte* slices = nullptr;
};
absl::Status EncodeSlices(const EncodeArgs& args, StreamHandle stream);

// Moves `tokens` tokens of every problem into or out of the index, from the token
// begin[sequence] on. `data` of a problem starts at problem * problem_stride.
struct IndexArgs {
  const SliceRecipes* recipes = nullptr;
  int sequences = 1;
  uint32_t tokens = 1;
  const uint32_t* begin = nullptr;    // device, [sequences]
  std::byte* const* tiles = nullptr;  // device, [problems]: SliceShape::index_bytes each
  const std::byte* data = nullptr;    // device: keys, or slices [token][slice_bytes]
  size_t problem_stride = 0;
  size_t token_stride = 0;
};
absl::Status AppendKeys(const IndexArgs& args, StreamHandle stream);
absl::Status AppendSlices(const IndexArgs& args, StreamHandle stream);
// Index -> slices at `slices`, laid out by args' strides; args.data is not read.
absl::Status CopySlices(const IndexArgs& args, std::byte* slices, StreamHandle stream);

}  // namespace passband::kernels::cuda
