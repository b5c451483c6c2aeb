// Launch: what the .cu files offer their host halves. Arguments are checked already.
//
// Stream  everything is enqueued on `stream`; the result is that of the launch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/fac.h"
#include "kernels/cuda/gather.h"
#include "kernels/cuda/slices.h"
#include "kernels/cuda/tip_select.h"

namespace passband::kernels::cuda {

enum class IndexSource : uint8_t { kKeys, kSlices };

cudaError_t LaunchEncode(const EncodeArgs& args, cudaStream_t stream);
cudaError_t LaunchAppend(const IndexArgs& args, IndexSource source, cudaStream_t stream);
cudaError_t LaunchCopySlices(const IndexArgs& args, std::byte* slices, cudaStream_t stream);
// With `active`, only tells how many problems would run at a time.
cudaError_t LaunchTipSelect(const TipSelectArgs& args, const TipSelectPlan& plan, int* active,
                            cudaStream_t stream);
cudaError_t LaunchFac(const FacArgs& args, const FacPlan& plan, cudaStream_t stream);
cudaError_t LaunchGather(const GatherArgs& args, cudaStream_t stream);

}  // namespace passband::kernels::cuda
