// Service: a connection or an embedded store, as Python holds it.
//
// Threads    safe; each call releases the GIL while it works. Close() does not cut off calls
//            under way: they hold the service until they end.
// Ownership  shares the service with calls, rows and engines.
// Errors     StatusError: the service's; kClosed after Close(); kForked in another process.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <mutex>

#include "sdk/kv_service.h"
#include "src/own_process.h"

namespace passband::python {

class Service {
 public:
  explicit Service(std::unique_ptr<KvService> service)
      : service_(SharedAtHome(std::move(service))) {}
  ~Service() { Close(); }

  std::shared_ptr<KvService> Get() const;
  bool closed() const;
  void Close();

 private:
  const OwnProcess home_;
  mutable std::mutex mutex_;
  std::shared_ptr<KvService> service_;
};

// The classes Service, Model, SequenceStat, Traffic and Profile.
void BindService(nanobind::module_& module);
// What of Service moves rows: append, fetch, read, slices.
void BindRowCalls(nanobind::class_<Service>& service);
void BindModel(nanobind::module_& module);

}  // namespace passband::python
