// Objects that must not be torn down by a fork's child: their threads and
// connections exist only in the process that made them, so the child leaks its copy.
//
// Threads  plain values.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "src/status_error.h"

namespace passband::python {

class OwnProcess {
 public:
  bool here() const { return ::getpid() == pid_; }
  void Check() const {
    if (here()) return;
    throw StatusError(Error(StatusCode::kFailedPrecondition,
                            "made by process {}, used by its fork {}", pid_, ::getpid()),
                      Reason::kForked);
  }

 private:
  pid_t pid_ = ::getpid();
};

template <typename T>
struct DeleteAtHome {
  OwnProcess home;
  void operator()(T* object) const {
    if (home.here()) delete object;
  }
};

template <typename T>
using HomeUnique = std::unique_ptr<T, DeleteAtHome<T>>;

template <typename T>
HomeUnique<T> AtHome(std::unique_ptr<T> object) {
  return HomeUnique<T>(object.release());
}

template <typename T>
std::shared_ptr<T> SharedAtHome(std::unique_ptr<T> object) {
  return std::shared_ptr<T>(object.release(), DeleteAtHome<T>{});
}

}  // namespace passband::python
