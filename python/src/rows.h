// PendingRows of Python: an answer on its way, then the memory it landed in.
//
// Threads    one at a time waits; the arrays it gives may be read by any.
// Ownership  owns the landing memory, which its arrays keep alive.
// Errors     StatusError, of the service.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "sdk/kv_service.h"
#include "src/own_process.h"

namespace passband::python {

class Landing {
 public:
  // `service` lives until the rows came.
  Landing(std::shared_ptr<KvService> service, std::unique_ptr<PendingRows> pending)
      : service_(std::move(service)), pending_(AtHome(std::move(pending))) {}

  bool Ready();
  // Waits without the GIL. May be repeated.
  std::span<const std::byte> Wait();

 private:
  const OwnProcess home_;
  std::mutex mutex_;
  std::shared_ptr<KvService> service_;
  HomeUnique<PendingRows> pending_;
};

// The class Landing.
void BindRows(nanobind::module_& module);

}  // namespace passband::python
