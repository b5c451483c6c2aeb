#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "profile/profile.h"
#include "src/service.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace passband::python {
namespace {

void Refuse(const std::string& text) {
  throw StatusError(Error(StatusCode::kInvalidArgument, "{}", text));
}

ModelInfo MakeModel(const std::string& fingerprint, const std::string& name, uint32_t layers,
                    uint32_t query_heads, uint32_t kv_heads, uint16_t head_dim, uint16_t rotary_dim,
                    const std::string& dtype, const std::string& rope_layout) {
  const size_t colon = fingerprint.find(':');
  if (colon == std::string::npos) {
    Refuse(fmt::format("fingerprint '{}': give \"architecture:weights\", as in \"1f0e:93ab\"",
                       fingerprint));
  }
  if (layers == 0 || kv_heads == 0 || head_dim == 0 || query_heads % kv_heads != 0) {
    Refuse(
        fmt::format("{} layers, {} query heads, {} kv heads, head_dim {}: none may be 0, and kv "
                    "heads divide query heads",
                    layers, query_heads, kv_heads, head_dim));
  }
  if (rotary_dim > head_dim || rotary_dim % 2 != 0) {
    Refuse(fmt::format("rotary_dim {} is odd, or larger than head_dim {}", rotary_dim, head_dim));
  }
  ModelInfo model{
      .fingerprint = {fingerprint.substr(0, colon), fingerprint.substr(colon + 1)},
      .name = name,
      .layers = layers,
      .query_heads = query_heads,
      .kv_heads = kv_heads,
      .head = {.head_dim = head_dim, .rotary_dim = rotary_dim},
  };
  model.head.dtype = Take(ParseDType(dtype));
  model.head.layout = Take(ParseRopeLayout(rope_layout));
  return model;
}

}  // namespace

void BindModel(nb::module_& module) {
  nb::class_<ModelInfo>(module, "Model")
      .def_static("make", &MakeModel, "fingerprint"_a, "name"_a, "layers"_a, "query_heads"_a,
                  "kv_heads"_a, "head_dim"_a, "rotary_dim"_a, "dtype"_a, "rope_layout"_a);
  nb::class_<Profile>(module, "Profile")
      .def_static(
          "load",
          [](const std::string& path) {
            const nb::gil_scoped_release others;
            return std::const_pointer_cast<Profile>(Take(Profile::Load(path)));
          },
          "path"_a)
      .def_prop_ro("slice_bytes", &Profile::slice_bytes)
      .def_prop_ro("chunks", &Profile::chunks)
      .def_prop_ro("digest", &Profile::digest)
      .def_prop_ro("fingerprint", [](const Profile& self) { return self.fingerprint.text(); })
      .def_ro("model_name", &Profile::model_name)
      .def_ro("layers", &Profile::layers)
      .def_ro("query_heads", &Profile::query_heads)
      .def_ro("kv_heads", &Profile::kv_heads)
      .def_prop_ro("head_dim", [](const Profile& self) { return self.shape.head_dim; })
      .def_prop_ro("rotary_dim", [](const Profile& self) { return self.shape.rotary_dim; })
      .def_prop_ro("dtype", [](const Profile& self) { return DTypeName(self.shape.dtype); })
      .def_prop_ro("rope_layout",
                   [](const Profile& self) { return RopeLayoutName(self.shape.layout); })
      .def_prop_ro("encoding", [](const Profile& self) { return EncodingName(self.encoding); });
}

}  // namespace passband::python
