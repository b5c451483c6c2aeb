// passband._core: the C++ SDK as Python sees it. passband/ puts a face on it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "base/log.h"
#include "src/rows.h"
#include "src/service.h"
#include "src/status_error.h"

namespace nb = nanobind;

NB_MODULE(_core, module) {
  passband::python::RegisterStatusTranslator();
  passband::python::BindRows(module);
  passband::python::BindService(module);
  module.def(
      "configure_log",
      [](const std::string& level) {
        passband::python::Check(passband::log::Configure(level, "text"));
      },
      nb::arg("level"));
}
