// Products: matrix products by cuBLAS, which is loaded when the first is made, so that a
// program which never makes one runs without it.
//
// Shapes   row-major: out [rows][outputs] = in [rows][inputs] times weight [outputs]
//          [inputs], transposed; in and weight of one element type, out float.
// Numbers  float sums; float elements are multiplied as floats, not as tf32.
// Stream   enqueued on the stream given at creation, nothing waits.
// Threads  one at a time.
// Errors   kUnavailable, naming the library, when cuBLAS is not there.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/device.h"
#include "kernels/types.h"

namespace passband::kernels::cuda {

struct ProductArgs {
  uint32_t rows = 0;
  uint32_t inputs = 0;
  uint32_t outputs = 0;
  DType dtype = DType::kBf16;  // or kF32
  const void* in = nullptr;
  const void* weight = nullptr;
  float* out = nullptr;
  bool add = false;  // to what out holds
};

class Products {
 public:
  static absl::StatusOr<std::unique_ptr<Products>> Create(StreamHandle stream);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  absl::Status Multiply(const ProductArgs& args);

 private:
  struct Library;
  Products() = default;

  std::unique_ptr<Library> library_;
  void* handle_ = nullptr;
  Memory workspace_;
};

}  // namespace passband::kernels::cuda
