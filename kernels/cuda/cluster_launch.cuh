// Cluster launch: a launch whose blocks along x are one cluster, and which may begin
// while the kernel before it ends (that kernel's results are waited for on the device).
//
// Contract  `config` points into the object.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace passband::kernels::cuda {

struct ClusterLaunch {
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};

  ClusterLaunch(dim3 grid, uint32_t threads, size_t shared_bytes, cudaStream_t stream) {
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim = {grid.x, 1, 1};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = grid.x > 1 ? 2 : 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;
  ClusterLaunch& operator=(const ClusterLaunch&) = delete;
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ inline void WaitForEarlier() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ inline void LetLaterStart() { asm volatile("griddepcontrol.launch_dependents;"); }
#else
__device__ inline void WaitForEarlier() {}
__device__ inline void LetLaterStart() {}
#endif

}  // namespace passband::kernels::cuda
