#include "src/status_error.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

namespace nb = nanobind;

namespace passband::python {
namespace {

const char* NameOf(Reason reason) {
  switch (reason) {
    case Reason::kService:
      return "service";
    case Reason::kClosed:
      return "closed";
    case Reason::kForked:
      return "forked";
    case Reason::kNoCuda:
      return "cuda";
    case Reason::kArray:
      return "array";
  }
  return "service";
}

void Translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const StatusError& error) {
    const nb::module_ errors = nb::module_::import_("passband.errors");
    const auto wait = RetryAfter(error.status());
    const nb::object made = errors.attr("_from_status")(
        static_cast<int>(error.status().code()), Message(error.status()),
        wait ? nb::cast(static_cast<double>(wait->count()) / 1000) : nb::none(),
        NameOf(error.reason()));
    PyErr_SetObject(made.type().ptr(), made.ptr());
  }
}

}  // namespace

void RegisterStatusTranslator() { nb::register_exception_translator(Translate); }

}  // namespace passband::python
