// SequenceShapes: which model's rows a sequence holds, remembered so that an append
// or a read does not have to ask the control plane.
//
// Threads    safe; asks the server without a lock held.
// Ownership  borrows the control client.
// Errors     what the control plane answers: kNotFound for a sequence that is
//            unknown, closed or another tenant's.
#pragma once

#include <string>
#include <unordered_map>

#include "base/ids.h"
#include "base/mutex.h"
#include "base/status.h"
#include "sdk/control_client.h"
#include "sdk/kv_service.h"
#include "sdk/row_shape.h"

namespace passband {

class SequenceShapes {
 public:
  explicit SequenceShapes(ControlClient& control) : control_(control) {}

  void AddModel(const ModelInfo& model);
  void AddSequence(SequenceId sequence, const std::string& model);
  void Forget(SequenceId sequence);
  StatusOr<RowShape> Of(SequenceId sequence);

 private:
  StatusOr<RowShape> OfModel(const std::string& model);

  ControlClient& control_;
  Mutex mutex_;
  std::unordered_map<std::string, RowShape> models_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<SequenceId, RowShape> sequences_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<SequenceId, std::string> unresolved_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
