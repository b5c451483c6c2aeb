// Hot rows on the GPU: per problem (slices.h) a fixed number of row slots, least recently
// selected out. One launch turns selections into row pointers and lists what is missing.
//
// Slots    more than any selection, so that every selected row gets one. Of rows last
//          selected in the same step, the one in the lower slot leaves first.
// Clock    rises from step to step of a problem, and starts above 0.
// Missing  in rising token order; each has its slot already, whose row the caller brings
//          before anything reads it (CopyRows).
// Stream   one launch each, nothing waits; capturable.
// Threads  safe, a problem in one launch at a time.
// Errors   arguments that do not fit are kInvalidArgument.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/device.h"

namespace passband::kernels::cuda {

inline constexpr uint32_t kNoToken = 0xffffffffU;
inline constexpr uint16_t kNoSlot = 0xffff;
inline constexpr uint32_t kMaxSelected = 2048;

// One problem's, in device memory. Before the first step token_of and slot_of hold ones in
// every bit.
struct HotSlots {
  std::byte* rows = nullptr;     // [slots][row_bytes]
  uint32_t* token_of = nullptr;  // [slots]
  uint32_t* stamps = nullptr;    // [slots]: the clock of the last selection
  uint16_t* slot_of = nullptr;   // [max_tokens]
  std::byte* tail = nullptr;     // pinned: [64][row_bytes], the newest block; may be null
};

struct MissingRow {
  uint32_t token = 0;
  uint32_t slot = 0;
};

struct HotArgs {
  int problems = 1;
  int kv_heads = 1;  // problems of a sequence
  uint32_t slots = 0;
  uint32_t max_selected = 0;  // at most kMaxSelected, below `slots`
  size_t row_bytes = 0;
  uint32_t clock = 1;
  const HotSlots* hot = nullptr;       // device, [problems]
  const uint32_t* selected = nullptr;  // device, [problems][max_selected], rising
  const uint32_t* counts = nullptr;    // device, [problems]
  const uint32_t* tokens = nullptr;    // device, [sequences]: with the newest
  const std::byte* newest = nullptr;   // device: its rows, of problem p from
  size_t newest_stride = 0;            // newest + p * newest_stride on
  const std::byte** rows = nullptr;    // device, [problems][max_selected]: out
  MissingRow* missing = nullptr;       // pinned, [problems][max_selected]: out
  uint32_t* missing_counts = nullptr;  // pinned, [problems]: out
};
// The newest token's row is taken from `newest`, into its slot and the tail.
absl::Status SelectHotRows(const HotArgs& args, StreamHandle stream);

// Forgets tokens >= `tokens` of every problem.
absl::Status TruncateHotRows(const HotSlots* hot, int problems, uint32_t slots, uint32_t tokens,
                             StreamHandle stream);

// A row from anywhere the device can read to device memory.
struct RowCopy {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
};
absl::Status CopyRows(const RowCopy* copies, uint32_t count, size_t row_bytes, StreamHandle stream);

// Rows of every problem, `count` each, from rows + problem * problem_stride on, to
// to[problem] + begin[sequence] rows.
struct AppendRowsArgs {
  int problems = 1;
  int kv_heads = 1;
  uint32_t count = 1;
  size_t row_bytes = 0;
  const std::byte* rows = nullptr;  // device
  size_t problem_stride = 0;        // bytes
  const uint32_t* begin = nullptr;  // device, [sequences]
  std::byte* const* to = nullptr;   // device, [problems]
};
absl::Status AppendRows(const AppendRowsArgs& args, StreamHandle stream);

// Up to kWords numbers travel with the launch, so that nothing has to keep them.
struct Words {
  static constexpr uint32_t kWords = 512;
  uint32_t value[kWords];
};
absl::Status WriteWords(const Words& words, uint32_t count, uint32_t* to, StreamHandle stream);

}  // namespace passband::kernels::cuda
