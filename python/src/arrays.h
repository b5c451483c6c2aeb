// Arrays that Python passes: checked, then seen as bytes with strides.
//
// Anything with __dlpack__ or the buffer protocol, on the CPU. Arrays on a GPU are refused
// with the next step (Reason::kNoCuda), whichever protocol shows them.
//
// Units      shape in elements, strides in bytes.
// Threads    with the GIL; what is seen may be read without it.
// Ownership  a view keeps the array alive.
// Errors     StatusError, kInvalidArgument, naming the argument.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace passband::python {

struct ArrayView {
  const std::byte* data = nullptr;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
  nanobind::dlpack::dtype dtype;
  nanobind::ndarray<nanobind::ro> owner;

  int64_t element_bytes() const { return dtype.bits / 8; }
  std::string ShapeText() const;
};

ArrayView ViewArray(nanobind::handle array, const char* name);

// The elements are of a row's type: the type itself, or unsigned integers of its size, which
// are taken as its bits.
void CheckElements(const ArrayView& view, kernels::DType dtype, const char* name);

// Token indices: integers in one dimension, none negative or past 2^32.
std::vector<uint32_t> ViewTokens(nanobind::handle array, const char* name);

}  // namespace passband::python
