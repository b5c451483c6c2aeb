#include "src/arrays.h"

#include <limits>

#include "fmt/format.h"
#include "profile/profile.h"
#include "src/status_error.h"

namespace nb = nanobind;

namespace passband::python {
namespace {

using Code = nb::dlpack::dtype_code;

[[noreturn]] void Refuse(std::string text, Reason reason = Reason::kArray) {
  const StatusCode code =
      reason == Reason::kNoCuda ? StatusCode::kUnimplemented : StatusCode::kInvalidArgument;
  throw StatusError(Error(code, "{}", text), reason);
}

[[noreturn]] void RefuseGpu(const char* name) {
  Refuse(fmt::format("{} is on a GPU, and this build of passband takes arrays on the CPU", name),
         Reason::kNoCuda);
}

std::string ElementName(const nb::dlpack::dtype& dtype) {
  const auto code = static_cast<Code>(dtype.code);
  const char* kind = code == Code::Float    ? "float"
                     : code == Code::Bfloat ? "bfloat"
                     : code == Code::Int    ? "int"
                     : code == Code::UInt   ? "uint"
                     : code == Code::Bool   ? "bool"
                                            : "an unknown type of bits ";
  return fmt::format("{}{}", kind, dtype.bits);
}

// Asked before the array is taken, which could copy or wait on a device.
bool IsElsewhere(nb::handle array) {
  if (!nb::hasattr(array, "__dlpack_device__")) return false;
  const auto device = nb::cast<int>(array.attr("__dlpack_device__")()[0]);
  return device != nb::device::cpu::value && device != nb::device::cuda_host::value;
}

std::string TypeName(nb::handle object) { return nb::type_name(object.type()).c_str(); }

}  // namespace

std::string ArrayView::ShapeText() const { return fmt::format("[{}]", fmt::join(shape, ", ")); }

ArrayView ViewArray(nb::handle array, const char* name) {
  if (nb::hasattr(array, "__cuda_array_interface__") || IsElsewhere(array)) RefuseGpu(name);
  ArrayView view;
  if (!nb::try_cast(array, view.owner, false)) {
    Refuse(
        fmt::format("{} is a {}: give a NumPy array, or one with __dlpack__ on the CPU (of a "
                    "torch tensor that needs gradients, detach it)",
                    name, TypeName(array)));
  }
  view.dtype = view.owner.dtype();
  if (view.dtype.lanes != 1 || view.dtype.bits % 8 != 0) {
    Refuse(fmt::format("{} has elements of {} bits in {} lanes", name, view.dtype.bits,
                       view.dtype.lanes));
  }
  view.data = static_cast<const std::byte*>(view.owner.data());
  for (size_t i = 0; i < view.owner.ndim(); ++i) {
    view.shape.push_back(static_cast<int64_t>(view.owner.shape(i)));
    view.strides.push_back(view.owner.stride(i) * view.element_bytes());
  }
  return view;
}

void CheckElements(const ArrayView& view, kernels::DType dtype, const char* name) {
  const auto code = static_cast<Code>(view.dtype.code);
  const size_t bytes = kernels::DTypeBytes(dtype);
  const Code wanted = dtype == kernels::DType::kBf16 ? Code::Bfloat : Code::Float;
  if (view.dtype.bits == bytes * 8 && (code == wanted || code == Code::UInt)) return;
  Refuse(
      fmt::format("{} has elements of {}, and the model's rows are {}: convert it, as in "
                  "torch's .to() or NumPy's .astype(); uint{} is taken as the bits",
                  name, ElementName(view.dtype), DTypeName(dtype), bytes * 8));
}

std::vector<uint32_t> ViewTokens(nb::handle array, const char* name) {
  const ArrayView view = ViewArray(array, name);
  const auto code = static_cast<Code>(view.dtype.code);
  if (code != Code::Int && code != Code::UInt) {
    Refuse(fmt::format("{} has elements of {}: token indices and ids are integers", name,
                       ElementName(view.dtype)));
  }
  if (view.shape.size() != 1) {
    Refuse(fmt::format("{} has shape {}: one dimension is wanted", name, view.ShapeText()));
  }
  std::vector<uint32_t> tokens(static_cast<size_t>(view.shape[0]));
  const auto bytes = static_cast<size_t>(view.element_bytes());
  for (size_t i = 0; i < tokens.size(); ++i) {
    uint64_t value = 0;
    std::memcpy(&value, view.data + static_cast<int64_t>(i) * view.strides[0], bytes);
    // Of a negative number the highest bit is set.
    const bool negative = code == Code::Int && (value >> (bytes * 8 - 1)) != 0;
    if (negative || value > std::numeric_limits<uint32_t>::max()) {
      Refuse(fmt::format("{}[{}] is negative or past 2^32", name, i));
    }
    tokens[i] = static_cast<uint32_t>(value);
  }
  return tokens;
}

}  // namespace passband::python
