// Status of CUDA: how a CUDA error becomes a Status.
//
// Contract  pure; `what` says which work failed.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "absl/status/status.h"

namespace passband::kernels::cuda {

absl::Status FromCuda(cudaError_t error, std::string_view what);

}  // namespace passband::kernels::cuda
