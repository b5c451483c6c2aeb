// EventSource: what a ProgressDriver drives: something from which events come, to be taken by
// whoever has the driver's lock.
//
// Threads    Progress and Arm under the driver's lock; event_fd anywhere.
#pragma once

#include "base/status.h"

namespace passband {

class EventSource {
 public:
  virtual ~EventSource() = default;

  // Does what can be done now; true if that was anything.
  virtual bool Progress() = 0;
  // True if event_fd() will become readable with the next event; false: progress again first.
  virtual StatusOr<bool> Arm() = 0;
  virtual int event_fd() const = 0;
};

}  // namespace passband
