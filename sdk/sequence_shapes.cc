#include "sdk/sequence_shapes.h"

namespace passband {
void SequenceShapes::AddModel(const ModelInfo& model) {
  MutexLock lock(mutex_);
  models_[model.fingerprint.text()] = {model.layers, model.kv_heads,
                                       static_cast<uint32_t>(model.head.row_bytes())};
}

void SequenceShapes::AddSequence(SequenceId sequence, const std::string& model) {
  MutexLock lock(mutex_);
  unresolved_[sequence] = model;
}

void SequenceShapes::Forget(SequenceId sequence) {
  MutexLock lock(mutex_);
  sequences_.erase(sequence);
  unresolved_.erase(sequence);
}

StatusOr<RowShape> SequenceShapes::OfModel(const std::string& model) {
  {
    MutexLock lock(mutex_);
    if (const auto found = models_.find(model); found != models_.end()) return found->second;
  }
  PASSBAND_ASSIGN_OR_RETURN(const RowShape shape, control_.FindModel(model));
  MutexLock lock(mutex_);
  models_[model] = shape;
  return shape;
}

StatusOr<RowShape> SequenceShapes::Of(SequenceId sequence) {
  std::string model;
  {
    MutexLock lock(mutex_);
    if (const auto found = sequences_.find(sequence); found != sequences_.end()) {
      return found->second;
    }
    if (const auto found = unresolved_.find(sequence); found != unresolved_.end()) {
      model = found->second;
    }
  }
  if (model.empty()) {
    PASSBAND_ASSIGN_OR_RETURN(const SequenceStat stat, control_.Stat(sequence));
    model = stat.model;
  }
  PASSBAND_ASSIGN_OR_RETURN(const RowShape shape, OfModel(model));
  MutexLock lock(mutex_);
  sequences_[sequence] = shape;
  unresolved_.erase(sequence);
  return shape;
}

}  // namespace passband
