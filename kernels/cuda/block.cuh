// Block: counting and scanning across the threads of a block, and across the blocks of
// a cluster, which share a problem. Before sm_90 a cluster is one block.
//
// Contract  called by all threads of a block, or of the cluster, together; blocks are of
//           whole warps.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace passband::kernels::cuda {

inline constexpr uint32_t kWarp = 32;
inline constexpr uint32_t kMaxWarps = 16;
inline constexpr uint32_t kMaxCluster = 16;
inline constexpr uint32_t kAllLanes = 0xffffffffU;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ inline uint32_t ClusterRank() {
  uint32_t rank = 0;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline uint32_t ClusterBlocks() {
  uint32_t blocks = 0;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
}
__device__ inline void ClusterArrive() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
// To be waited for before the first access to another block; orders nothing.
__device__ inline void ClusterBegin() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ inline void ClusterWait() {
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The same place in the shared memory of block `rank`.
template <class T>
__device__ inline T* InBlock(T* local, uint32_t rank) {
  uint64_t remote = 0;
  asm("mapa.u64 %0, %1, %2;" : "=l"(remote) : "l"(reinterpret_cast<uint64_t>(local)), "r"(rank));
  return reinterpret_cast<T*>(remote);
}
#else
__device__ inline uint32_t ClusterRank() { return 0; }
__device__ inline uint32_t ClusterBlocks() { return 1; }
__device__ inline void ClusterBegin() {}
__device__ inline void ClusterArrive() { __syncthreads(); }
__device__ inline void ClusterWait() {}
template <class T>
__device__ inline T* InBlock(T* local, uint32_t) {
  return local;
}
#endif
__device__ inline void ClusterSync() {
  ClusterArrive();
  ClusterWait();
}

__device__ inline uint32_t Lane() { return threadIdx.x % kWarp; }
__device__ inline uint32_t WarpOfBlock() { return threadIdx.x / kWarp; }
__device__ inline uint32_t WarpsOfBlock() { return blockDim.x / kWarp; }

__device__ inline uint32_t WarpSum(uint32_t value) { return __reduce_add_sync(kAllLanes, value); }

__device__ inline float WarpMax(float value) {
  for (uint32_t step = kWarp / 2; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  }
  return value;
}

// Two sets, used in turn, so that one barrier a sum is enough. Each thread keeps whose
// turn it is.
struct BlockSums {
  uint32_t warp[2][kMaxWarps];
};

// The sum over the block's threads.
__device__ inline uint32_t BlockSum(BlockSums& sums, uint32_t& turn, uint32_t value) {
  const uint32_t of_warp = WarpSum(value);
  if (Lane() == 0) sums.warp[turn][WarpOfBlock()] = of_warp;
  __syncthreads();
  const uint32_t total = WarpSum(Lane() < WarpsOfBlock() ? sums.warp[turn][Lane()] : 0);
  turn ^= 1;
  return total;
}

struct Scan {
  uint32_t before = 0;  // the sum over the threads before this one
  uint32_t total = 0;
};
__device__ inline Scan BlockScan(BlockSums& sums, uint32_t& turn, uint32_t value) {
  uint32_t inclusive = value;
  for (uint32_t step = 1; step < kWarp; step *= 2) {
    const uint32_t other = __shfl_up_sync(kAllLanes, inclusive, step);
    if (Lane() >= step) inclusive += other;
  }
  if (Lane() == kWarp - 1) sums.warp[turn][WarpOfBlock()] = inclusive;
  __syncthreads();
  const uint32_t of_warp = Lane() < WarpsOfBlock() ? sums.warp[turn][Lane()] : 0;
  turn ^= 1;
  const uint32_t earlier = WarpSum(Lane() < WarpOfBlock() ? of_warp : 0);
  return {earlier + inclusive - value, WarpSum(of_warp)};
}

// 2^x; 0 below the normal floats.
__device__ inline float Exp2(float x) {
  float result = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace passband::kernels::cuda
