// The words that profiles, flags and the control plane use for enumerators.
#include <array>
#include <span>
#include <utility>

#include "profile/profile.h"

namespace passband {
namespace {

template <typename Enum>
using NameTable = std::span<const std::pair<Enum, const char*>>;

constexpr std::array<std::pair<kernels::SliceEncoding, const char*>, 5> kEncodings{
    {{kernels::SliceEncoding::kBf16, "bf16"},
     {kernels::SliceEncoding::kFp8, "fp8"},
     {kernels::SliceEncoding::kInt8, "int8"},
     {kernels::SliceEncoding::kInt4, "int4"},
     {kernels::SliceEncoding::kInt2, "int2"}}};
constexpr std::array<std::pair<kernels::DType, const char*>, 3> kDTypes{
    {{kernels::DType::kBf16, "bf16"},
     {kernels::DType::kF16, "f16"},
     {kernels::DType::kF32, "f32"}}};
constexpr std::array<std::pair<kernels::RopeLayout, const char*>, 2> kLayouts{
    {{kernels::RopeLayout::kHalf, "half"}, {kernels::RopeLayout::kInterleaved, "interleaved"}}};

template <typename Enum>
std::string NameOf(NameTable<Enum> table, Enum value) {
  for (const auto& [candidate, name] : table) {
    if (candidate == value) return name;
  }
  return "unknown";
}

template <typename Enum>
StatusOr<Enum> ValueOf(NameTable<Enum> table, const std::string& name, const char* what) {
  std::string known;
  for (const auto& [value, candidate] : table) {
    if (name == candidate) return value;
    known += known.empty() ? candidate : fmt::format(", {}", candidate);
  }
  return Error(StatusCode::kInvalidArgument, "{} '{}' is unknown; choose one of {}", what, name,
               known);
}

}  // namespace

std::string EncodingName(kernels::SliceEncoding encoding) {
  return NameOf<kernels::SliceEncoding>(kEncodings, encoding);
}
StatusOr<kernels::SliceEncoding> ParseEncoding(const std::string& name) {
  return ValueOf<kernels::SliceEncoding>(kEncodings, name, "slice encoding");
}
std::string DTypeName(kernels::DType dtype) { return NameOf<kernels::DType>(kDTypes, dtype); }
StatusOr<kernels::DType> ParseDType(const std::string& name) {
  return ValueOf<kernels::DType>(kDTypes, name, "element type");
}
std::string RopeLayoutName(kernels::RopeLayout layout) {
  return NameOf<kernels::RopeLayout>(kLayouts, layout);
}
StatusOr<kernels::RopeLayout> ParseRopeLayout(const std::string& name) {
  return ValueOf<kernels::RopeLayout>(kLayouts, name, "RoPE layout");
}

}  // namespace passband
