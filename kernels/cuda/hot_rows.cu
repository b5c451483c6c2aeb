#include <cuda_runtime.h>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/hot_rows.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kTailTokens = 64;
constexpr uint32_t kAges = 256;  // the last: slots never used

struct HotShared {
  BlockSums sums;
  uint32_t ages[kAges];
  uint32_t oldest;  // age that is only partly evicted; all above it is
  uint32_t older;   // slots above it
  uint32_t missing_at[kMaxSelected];
  uint32_t victims[kMaxSelected];
};

__device__ uint32_t AgeOf(const HotSlots& hot, uint32_t slot, uint32_t clock) {
  if (hot.token_of[slot] == kNoToken) return kAges - 1;
  return min(clock - hot.stamps[slot], kAges - 2);
}

// Points at the hot rows, stamps them, and lists the others. Returns how many these are.
__device__ uint32_t FindHot(const HotArgs& args, const HotSlots& hot, const uint32_t* selected,
                            uint32_t count, const std::byte** rows, uint32_t& turn, HotShared& s) {
  uint32_t missing = 0;
  for (uint32_t begin = 0; begin < count; begin += kThreads) {
    const uint32_t i = begin + threadIdx.x;
    bool misses = false;
    if (i < count) {
      const uint16_t slot = hot.slot_of[selected[i]];
      misses = slot == kNoSlot;
      if (!misses) {
        hot.stamps[slot] = args.clock;
        rows[i] = hot.rows + slot * args.row_bytes;
      }
    }
    const Scan scan = BlockScan(s.sums, turn, misses ? 1 : 0);
    if (misses) s.missing_at[missing + scan.before] = i;
    missing += scan.total;
  }
  __syncthreads();
  return missing;
}

// From which age on slots must go so that `wanted` are free.
__device__ void FindOldest(const HotArgs& args, const HotSlots& hot, uint32_t wanted,
                           HotShared& s) {
  for (uint32_t i = threadIdx.x; i < kAges; i += kThreads) s.ages[i] = 0;
  __syncthreads();
  for (uint32_t slot = threadIdx.x; slot < args.slots; slot += kThreads) {
    atomicAdd(&s.ages[AgeOf(hot, slot, args.clock)], 1U);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t older = 0;
    uint32_t age = kAges - 1;
    while (age > 1 && older + s.ages[age] < wanted) older += s.ages[age--];
    s.oldest = age;
    s.older = older;
  }
  __syncthreads();
}

__device__ void ListVictims(const HotArgs& args, const HotSlots& hot, uint32_t wanted,
                            uint32_t& turn, HotShared& s) {
  uint32_t above = 0;
  uint32_t equal = 0;
  for (uint32_t begin = 0; begin < args.slots; begin += kThreads) {
    const uint32_t slot = begin + threadIdx.x;
    const uint32_t age = slot < args.slots ? AgeOf(hot, slot, args.clock) : 0;
    const Scan scan_above = BlockScan(s.sums, turn, age > s.oldest ? 1 : 0);
    const Scan scan_equal = BlockScan(s.sums, turn, age == s.oldest && age > 0 ? 1 : 0);
    if (age > s.oldest) s.victims[above + scan_above.before] = slot;
    const uint32_t place = s.older + equal + scan_equal.before;
    if (age == s.oldest && age > 0 && place < wanted) s.victims[place] = slot;
    above += scan_above.total;
    equal += scan_equal.total;
  }
  __syncthreads();
}

// The newest row goes to its slot, and behind the others of its block.
__device__ void KeepNewest(const HotArgs& args, const HotSlots& hot, uint32_t problem,
                           uint32_t slot, uint32_t token) {
  const auto* from = reinterpret_cast<const uint4*>(args.newest + problem * args.newest_stride);
  auto* to = reinterpret_cast<uint4*>(hot.rows + slot * args.row_bytes);
  auto* tail = hot.tail == nullptr
                   ? nullptr
                   : reinterpret_cast<uint4*>(hot.tail + token % kTailTokens * args.row_bytes);
  for (uint32_t u = threadIdx.x; u < args.row_bytes / 16; u += kThreads) {
    const uint4 unit = from[u];
    to[u] = unit;
    if (tail != nullptr) tail[u] = unit;
  }
}

__global__ void __launch_bounds__(kThreads) HotKernel(const __grid_constant__ HotArgs args) {
  __shared__ HotShared s;
  const uint32_t problem = blockIdx.x;
  const HotSlots hot = args.hot[problem];
  const size_t first = size_t{problem} * args.max_selected;
  const uint32_t* selected = args.selected + first;
  const uint32_t count = min(args.counts[problem], args.max_selected);
  const uint32_t newest = args.tokens[problem / args.kv_heads] - 1;
  uint32_t turn = 0;
  const uint32_t missing = FindHot(args, hot, selected, count, args.rows + first, turn, s);
  if (missing > 0) {
    FindOldest(args, hot, missing, s);
    ListVictims(args, hot, missing, turn, s);
  }
  // The newest token is the last that was selected, if it was.
  const bool has_newest = missing > 0 && selected[s.missing_at[missing - 1]] == newest;
  for (uint32_t k = threadIdx.x; k < missing; k += kThreads) {
    const uint32_t slot = s.victims[k];
    const uint32_t old = hot.token_of[slot];
    if (old != kNoToken) hot.slot_of[old] = kNoSlot;
  }
  __syncthreads();
  for (uint32_t k = threadIdx.x; k < missing; k += kThreads) {
    const uint32_t slot = s.victims[k];
    const uint32_t token = selected[s.missing_at[k]];
    hot.token_of[slot] = token;
    hot.slot_of[token] = static_cast<uint16_t>(slot);
    hot.stamps[slot] = args.clock;
    args.rows[first + s.missing_at[k]] = hot.rows + slot * args.row_bytes;
    if (!has_newest || k + 1 < missing) args.missing[first + k] = {token, slot};
  }
  if (has_newest) KeepNewest(args, hot, problem, s.victims[missing - 1], newest);
  if (threadIdx.x == 0) args.missing_counts[problem] = missing - (has_newest ? 1 : 0);
}

__global__ void TruncateKernel(const HotSlots* hot, uint32_t slots, uint32_t tokens) {
  const HotSlots& h = hot[blockIdx.x];
  for (uint32_t slot = threadIdx.x; slot < slots; slot += kThreads) {
    const uint32_t token = h.token_of[slot];
    if (token == kNoToken || token < tokens) continue;
    h.slot_of[token] = kNoSlot;
    h.token_of[slot] = kNoToken;
  }
}

constexpr uint32_t kRowLanes = 16;

__global__ void CopyRowsKernel(const RowCopy* copies, uint32_t count, uint32_t units) {
  const uint32_t at = (blockIdx.x * kThreads + threadIdx.x) / kRowLanes;
  if (at >= count) return;
  const RowCopy copy = copies[at];
  const auto* from = reinterpret_cast<const uint4*>(copy.from);
  auto* to = reinterpret_cast<uint4*>(copy.to);
  // What the host wrote must be read anew.
  for (uint32_t u = threadIdx.x % kRowLanes; u < units; u += kRowLanes) to[u] = __ldcv(from + u);
}

__global__ void AppendKernel(AppendRowsArgs args) {
  const uint32_t units = static_cast<uint32_t>(args.row_bytes / 16);
  const uint32_t at = (blockIdx.x * kThreads + threadIdx.x) / kRowLanes;
  if (at >= args.count) return;
  const uint32_t problem = blockIdx.y;
  const size_t token = size_t{args.begin[problem / args.kv_heads]} + at;
  const auto* from = reinterpret_cast<const uint4*>(args.rows + problem * args.problem_stride +
                                                    at * args.row_bytes);
  auto* to = reinterpret_cast<uint4*>(args.to[problem] + token * args.row_bytes);
  for (uint32_t u = threadIdx.x % kRowLanes; u < units; u += kRowLanes) to[u] = from[u];
}

__global__ void WordsKernel(const __grid_constant__ Words words, uint32_t count, uint32_t* to) {
  for (uint32_t i = threadIdx.x; i < count; i += kThreads) to[i] = words.value[i];
}

uint32_t RowBlocks(uint32_t rows) { return (rows * kRowLanes + kThreads - 1) / kThreads; }
absl::Status Launched(const char* what) { return FromCuda(cudaGetLastError(), what); }

}  // namespace

absl::Status SelectHotRows(const HotArgs& args, StreamHandle stream) {
  if (args.max_selected == 0 || args.max_selected > kMaxSelected ||
      args.slots <= args.max_selected || args.slots >= kNoSlot || args.row_bytes % 16 != 0 ||
      args.clock == 0) {
    return absl::InvalidArgumentError(
        "hot rows: selections of 1 to 2048 rows, more slots than that and fewer than 65535, "
        "rows of whole 16 bytes");
  }
  HotKernel<<<static_cast<uint32_t>(args.problems), kThreads, 0, stream>>>(args);
  return Launched("hot rows");
}

absl::Status TruncateHotRows(const HotSlots* hot, int problems, uint32_t slots, uint32_t tokens,
                             StreamHandle stream) {
  TruncateKernel<<<static_cast<uint32_t>(problems), kThreads, 0, stream>>>(hot, slots, tokens);
  return Launched("truncate hot rows");
}

absl::Status CopyRows(const RowCopy* copies, uint32_t count, size_t row_bytes,
                      StreamHandle stream) {
  if (count == 0) return absl::OkStatus();
  CopyRowsKernel<<<RowBlocks(count), kThreads, 0, stream>>>(copies, count,
                                                            static_cast<uint32_t>(row_bytes / 16));
  return Launched("copy rows");
}

absl::Status AppendRows(const AppendRowsArgs& args, StreamHandle stream) {
  if (args.count == 0) return absl::OkStatus();
  AppendKernel<<<dim3(RowBlocks(args.count), static_cast<uint32_t>(args.problems)), kThreads, 0,
                 stream>>>(args);
  return Launched("append rows");
}

absl::Status WriteWords(const Words& words, uint32_t count, uint32_t* to, StreamHandle stream) {
  if (count > Words::kWords) return absl::InvalidArgumentError("write words: at most 512");
  WordsKernel<<<1, kThreads, 0, stream>>>(words, count, to);
  return Launched("write words");
}

}  // namespace passband::kernels::cuda
