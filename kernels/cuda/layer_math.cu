#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/layer_math.h"
#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

constexpr uint32_t kThreads = 256;

__device__ void Store(Elements out, size_t at, float value) {
  if (out.dtype == DType::kBf16) {
    static_cast<__nv_bfloat16*>(out.data)[at] = __float2bfloat16_rn(value);
  } else {
    static_cast<float*>(out.data)[at] = value;
  }
}
__device__ float Load(Elements in, size_t at) {
  return in.dtype == DType::kBf16 ? __bfloat162float(static_cast<const __nv_bfloat16*>(in.data)[at])
                                  : static_cast<const float*>(in.data)[at];
}
__device__ size_t ThreadIndex() { return size_t{blockIdx.x} * kThreads + threadIdx.x; }

uint32_t BlocksFor(size_t count) {
  return static_cast<uint32_t>((count + kThreads - 1) / kThreads);
}

absl::Status Launched(const char* what) { return FromCuda(cudaGetLastError(), what); }

__global__ void EmbedKernel(Elements table, const uint32_t* tokens, uint32_t width, float* out) {
  const size_t from = size_t{tokens[blockIdx.x]} * width;
  const size_t to = size_t{blockIdx.x} * width;
  for (uint32_t i = threadIdx.x; i < width; i += kThreads) out[to + i] = Load(table, from + i);
}

__global__ void RmsNormKernel(const float* in, const float* weight, double eps, uint32_t width,
                              Elements out) {
  __shared__ float warp_sums[kThreads / 32];
  const float* row = in + size_t{blockIdx.x} * width;
  float squares = 0;
  for (uint32_t i = threadIdx.x; i < width; i += kThreads) squares = fmaf(row[i], row[i], squares);
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0U, squares, step);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0;
  for (uint32_t w = 0; w < kThreads / 32; ++w) total += warp_sums[w];
  const auto factor = static_cast<float>(1.0 / sqrt(static_cast<double>(total) / width + eps));
  for (uint32_t i = threadIdx.x; i < width; i += kThreads) {
    Store(out, size_t{blockIdx.x} * width + i, row[i] * factor * weight[i]);
  }
}

__global__ void AddBiasKernel(const float* bias, uint32_t width, size_t count, float* values) {
  const size_t at = ThreadIndex();
  if (at < count) values[at] += bias[at % width];
}

__global__ void SiluKernel(const float* gate_up, uint32_t inner, size_t count, Elements out) {
  const size_t at = ThreadIndex();
  if (at >= count) return;
  const float* row = gate_up + at / inner * 2 * inner;
  const float gate = row[at % inner];
  Store(out, at, gate / (1.0F + expf(-gate)) * row[inner + at % inner]);
}

__global__ void ConvertKernel(const float* in, size_t count, Elements out) {
  const size_t at = ThreadIndex();
  if (at < count) Store(out, at, in[at]);
}

// Dimension `dim` of a head, rotated by the position.
__device__ float Rotated(const SplitArgs& args, const float* head, uint32_t dim,
                         uint32_t position) {
  const uint32_t half = args.shape.rotary_dim / 2;
  if (dim >= 2 * half) return head[dim];
  float sine = 0;
  float cosine = 0;
  // The angle is rounded to float before sine and cosine, as checkpoints were trained.
  sincosf(static_cast<float>(position) * args.frequencies[dim % half], &sine, &cosine);
  return dim < half ? head[dim] * cosine - head[dim + half] * sine
                    : head[dim] * cosine + head[dim - half] * sine;
}

// A block is one head of one row: queries, then keys, then values.
__global__ void SplitKernel(SplitArgs args) {
  const uint32_t row = blockIdx.x;
  const uint32_t head = blockIdx.y;
  const uint32_t dims = args.shape.head_dim;
  const uint32_t heads = args.q_heads + 2 * args.kv_heads;
  const float* in = args.qkv + (size_t{row} * heads + head) * dims;
  const uint32_t position = args.positions[row];
  if (head < args.q_heads) {
    float* out = args.queries + (size_t{row} * args.q_heads + head) * dims;
    for (uint32_t d = threadIdx.x; d < dims; d += blockDim.x) {
      out[d] = Rotated(args, in, d, position);
    }
    return;
  }
  const uint32_t index = head - args.q_heads;
  const bool is_key = index < args.kv_heads;
  const size_t first = args.item_first[row];
  const size_t at =
      first * args.kv_heads + size_t{index % args.kv_heads} * args.item_count[row] + (row - first);
  auto* out = reinterpret_cast<__nv_bfloat16*>(args.out_rows) + at * 2 * dims;
  for (uint32_t d = threadIdx.x; d < dims; d += blockDim.x) {
    out[is_key ? d : dims + d] =
        __float2bfloat16_rn(is_key ? Rotated(args, in, d, position) : in[d]);
  }
}

__global__ void ArgMaxKernel(const float* values, uint32_t width, uint32_t* best) {
  __shared__ float most[kThreads];
  __shared__ uint32_t where[kThreads];
  const float* row = values + size_t{blockIdx.x} * width;
  float mine = -INFINITY;
  uint32_t at = 0;
  for (uint32_t i = threadIdx.x; i < width; i += kThreads) {
    if (row[i] <= mine) continue;
    mine = row[i];
    at = i;
  }
  most[threadIdx.x] = mine;
  where[threadIdx.x] = at;
  __syncthreads();
  for (uint32_t step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) {
      const float other = most[threadIdx.x + step];
      const uint32_t other_at = where[threadIdx.x + step];
      if (other > most[threadIdx.x] ||
          (other == most[threadIdx.x] && other_at < where[threadIdx.x])) {
        most[threadIdx.x] = other;
        where[threadIdx.x] = other_at;
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) best[blockIdx.x] = where[0];
}

__device__ uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

__global__ void FillKernel(Elements out, size_t count, uint64_t seed, float deviation) {
  const size_t stride = size_t{gridDim.x} * kThreads;
  for (size_t at = ThreadIndex(); at < count; at += stride) {
    const uint64_t bits = Mix(seed ^ Mix(at));
    const float first = (static_cast<float>(bits >> 40) + 1.0F) * 0x1p-24F;
    const float second = static_cast<float>(bits & 0xffffff) * 0x1p-24F;
    Store(out, at, deviation * sqrtf(-2.0F * logf(first)) * cospif(2.0F * second));
  }
}

}  // namespace

absl::Status Embed(Elements table, const uint32_t* tokens, uint32_t rows, uint32_t width,
                   float* out, StreamHandle stream) {
  EmbedKernel<<<rows, kThreads, 0, stream>>>(table, tokens, width, out);
  return Launched("embed");
}

absl::Status RmsNorm(const float* in, const float* weight, double eps, uint32_t rows,
                     uint32_t width, Elements out, StreamHandle stream) {
  RmsNormKernel<<<rows, kThreads, 0, stream>>>(in, weight, eps, width, out);
  return Launched("rms norm");
}

absl::Status AddBias(const float* bias, uint32_t rows, uint32_t width, float* values,
                     StreamHandle stream) {
  const size_t count = size_t{rows} * width;
  AddBiasKernel<<<BlocksFor(count), kThreads, 0, stream>>>(bias, width, count, values);
  return Launched("add bias");
}

absl::Status SiluTimesUp(const float* gate_up, uint32_t rows, uint32_t inner, Elements out,
                         StreamHandle stream) {
  const size_t count = size_t{rows} * inner;
  SiluKernel<<<BlocksFor(count), kThreads, 0, stream>>>(gate_up, inner, count, out);
  return Launched("silu");
}

absl::Status Convert(const float* in, size_t count, Elements out, StreamHandle stream) {
  ConvertKernel<<<BlocksFor(count), kThreads, 0, stream>>>(in, count, out);
  return Launched("convert");
}

absl::Status SplitAndRotate(const SplitArgs& args, StreamHandle stream) {
  const dim3 grid(args.rows, args.q_heads + 2 * args.kv_heads);
  SplitKernel<<<grid, 64, 0, stream>>>(args);
  return Launched("split and rotate");
}

absl::Status ArgMax(const float* values, uint32_t rows, uint32_t width, uint32_t* best,
                    StreamHandle stream) {
  if (rows == 0) return absl::OkStatus();
  ArgMaxKernel<<<rows, kThreads, 0, stream>>>(values, width, best);
  return Launched("arg max");
}

absl::Status FillNormal(Elements out, size_t count, uint64_t seed, float deviation,
                        StreamHandle stream) {
  const uint32_t blocks = BlocksFor(count) < 4096 ? BlocksFor(count) : 4096;
  FillKernel<<<blocks, kThreads, 0, stream>>>(out, count, seed, deviation);
  return Launched("fill");
}

}  // namespace passband::kernels::cuda
