#include "kernels/cuda/product.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include <string>

namespace passband::kernels::cuda {
namespace {

constexpr char kLibrary[] = "libcublas.so.13";
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

absl::Status FromCublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return {status == CUBLAS_STATUS_ALLOC_FAILED ? absl::StatusCode::kResourceExhausted
                                               : absl::StatusCode::kInternal,
          std::string(what) + ": cuBLAS says " + std::to_string(static_cast<int>(status))};
}

}  // namespace

struct Products::Library {
  void* handle = nullptr;
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  // Spelled out: the name is overloaded in C++.
  cublasStatus_t (*multiply)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                             const void*, const void*, cudaDataType, int, const void*, cudaDataType,
                             int, const void*, void*, cudaDataType, int, cublasComputeType_t,
                             cublasGemmAlgo_t) = nullptr;

  ~Library() {
    if (handle != nullptr) ::dlclose(handle);
  }
  template <class Function>
  absl::Status Find(const char* name, Function& function) const {
    function = reinterpret_cast<Function>(::dlsym(handle, name));
    if (function != nullptr) return absl::OkStatus();
    return absl::UnavailableError(std::string(kLibrary) + " has no " + name);
  }
  absl::Status Load() {
    handle = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      return absl::UnavailableError(std::string("cannot load cuBLAS (") + ::dlerror() +
                                    "): install CUDA 13's, or name its folder in LD_LIBRARY_PATH");
    }
    absl::Status status = Find("cublasCreate_v2", create);
    status.Update(Find("cublasDestroy_v2", destroy));
    status.Update(Find("cublasSetStream_v2", set_stream));
    status.Update(Find("cublasSetWorkspace_v2", set_workspace));
    status.Update(Find("cublasGemmEx", multiply));
    return status;
  }
};

absl::StatusOr<std::unique_ptr<Products>> Products::Create(StreamHandle stream) {
  std::unique_ptr<Products> out(new Products());
  out->library_ = std::make_unique<Library>();
  if (auto status = out->library_->Load(); !status.ok()) return status;
  auto workspace = Memory::Allocate(kWorkspaceBytes);
  if (!workspace.ok()) return workspace.status();
  out->workspace_ = *std::move(workspace);
  cublasHandle_t handle = nullptr;
  auto status = FromCublas(out->library_->create(&handle), "creating a cuBLAS handle");
  if (!status.ok()) return status;
  out->handle_ = handle;
  status = FromCublas(out->library_->set_stream(handle, stream), "cuBLAS stream");
  status.Update(FromCublas(
      out->library_->set_workspace(handle, out->workspace_.data(), kWorkspaceBytes), "cuBLAS"));
  if (!status.ok()) return status;
  return out;
}

Products::~Products() {
  if (handle_ != nullptr) library_->destroy(static_cast<cublasHandle_t>(handle_));
}

absl::Status Products::Multiply(const ProductArgs& args) {
  const cudaDataType_t type = args.dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
  const float alpha = 1.0F;
  const float beta = args.add ? 1.0F : 0.0F;
  const auto inputs = static_cast<int>(args.inputs);
  const auto outputs = static_cast<int>(args.outputs);
  // cuBLAS counts columns first: what is row-major here is transposed there.
  return FromCublas(
      library_->multiply(static_cast<cublasHandle_t>(handle_), CUBLAS_OP_T, CUBLAS_OP_N, outputs,
                         static_cast<int>(args.rows), inputs, &alpha, args.weight, type, inputs,
                         args.in, type, inputs, &beta, args.out, CUDA_R_32F, outputs,
                         CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "matrix product");
}

}  // namespace passband::kernels::cuda
