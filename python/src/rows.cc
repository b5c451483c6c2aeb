#include "src/rows.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "kernels/dtype.h"
#include "profile/profile.h"
#include "src/arrays.h"

namespace nb = nanobind;

namespace passband::python {
namespace {

size_t CountOf(const std::vector<size_t>& shape) {
  size_t count = 1;
  for (const size_t extent : shape) count *= extent;
  return count;
}

void CheckSize(std::span<const std::byte> bytes, size_t wanted) {
  if (bytes.size() == wanted) return;
  throw StatusError(
      Error(StatusCode::kInternal, "{} bytes came where {} were asked for", bytes.size(), wanted));
}

// The landing memory itself, as an array of the rows' type: for __dlpack__.
nb::ndarray<nb::array_api> DlpackOf(nb::handle self, const std::vector<size_t>& shape,
                                    const std::string& dtype_name) {
  const kernels::DType dtype = Take(ParseDType(dtype_name));
  auto& landing = nb::cast<Landing&>(self);
  const auto bytes = landing.Wait();
  CheckSize(bytes, CountOf(shape) * kernels::DTypeBytes(dtype));
  const auto code = dtype == kernels::DType::kBf16 ? nb::dlpack::dtype_code::Bfloat
                                                   : nb::dlpack::dtype_code::Float;
  // DLPack's consumers want to write; nobody else reads this memory.
  return {const_cast<std::byte*>(bytes.data()),
          shape.size(),
          shape.data(),
          self,
          nullptr,
          {static_cast<uint8_t>(code), static_cast<uint8_t>(kernels::DTypeBytes(dtype) * 8), 1}};
}

nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>> BytesOf(nb::handle self) {
  auto& landing = nb::cast<Landing&>(self);
  const auto bytes = landing.Wait();
  return {reinterpret_cast<const uint8_t*>(bytes.data()), {bytes.size()}, self};
}

nb::ndarray<nb::numpy, float, nb::ndim<1>> FloatsOf(nb::handle self,
                                                    const std::string& dtype_name) {
  const kernels::DType dtype = Take(ParseDType(dtype_name));
  auto& landing = nb::cast<Landing&>(self);
  const auto bytes = landing.Wait();
  const size_t count = bytes.size() / kernels::DTypeBytes(dtype);
  auto floats = std::make_unique<float[]>(std::max<size_t>(count, 1));
  {
    const nb::gil_scoped_release others;
    kernels::DTypeToFloat(bytes.data(), count, dtype, floats.get());
  }
  const nb::capsule owner(floats.get(),
                          [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
  return {floats.release(), {count}, owner};
}

// Copies into the caller's own contiguous memory.
void CopyTo(Landing& landing, nb::handle out) {
  const auto bytes = landing.Wait();
  nb::ndarray<nb::c_contig, nb::device::cpu> memory;
  if (!nb::try_cast(out, memory, false) || memory.nbytes() != bytes.size()) {
    throw StatusError(
        Error(StatusCode::kInvalidArgument,
              "out: a writable, contiguous array on the CPU of {} bytes is wanted", bytes.size()),
        Reason::kArray);
  }
  const nb::gil_scoped_release others;
  std::copy(bytes.begin(), bytes.end(), static_cast<std::byte*>(memory.data()));
}

}  // namespace

bool Landing::Ready() {
  home_.Check();
  const std::lock_guard lock(mutex_);
  return pending_->Ready();
}

std::span<const std::byte> Landing::Wait() {
  home_.Check();
  const nb::gil_scoped_release others;
  const std::lock_guard lock(mutex_);
  return Take(pending_->Wait());
}

void BindRows(nb::module_& module) {
  nb::class_<Landing>(module, "Landing")
      .def("ready", &Landing::Ready, nb::call_guard<nb::gil_scoped_release>())
      .def("wait", [](Landing& landing) { landing.Wait(); })
      .def("dlpack", &DlpackOf, nb::arg("shape"), nb::arg("dtype"))
      .def("numpy", &BytesOf)
      .def("floats", &FloatsOf, nb::arg("dtype"))
      .def("copy_to", &CopyTo, nb::arg("out").none());
}

}  // namespace passband::python
