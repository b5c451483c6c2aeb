// ModelTable: what the registered models' rows mean, beyond the sizes that the store knows.
//
// Threads  safe; one leaf mutex, not held while the store is told.
// Errors   kInvalidArgument   a shape that no model has, naming the field
//          kAlreadyExists     the fingerprint is known with another shape
//          kNotFound          unknown fingerprint
//          kResourceExhausted kMaxModels are registered
//          and those of Store::RegisterModel
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "kernels/types.h"
#include "kvstore/store.h"

namespace passband::server {

inline constexpr size_t kMaxModels = 1024;

struct ModelRecord {
  std::string fingerprint;
  std::string name;
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  kernels::HeadShape head;

  // What the store needs to know of it.
  ModelSpec spec() const;
  // Names are for people and do not count.
  bool SameShape(const ModelRecord& other) const;
};

// OK when the sizes are ones the server can serve.
Status CheckModel(const ModelRecord& model);

class ModelTable {
 public:
  // `store` must outlive it. Knows the models that the store has from an earlier run.
  explicit ModelTable(Store& store);

  // Here and in the store, which keeps it for later runs with the sequences that are sealed.
  // Idempotent for an equal shape.
  Status Register(const ModelRecord& model);
  StatusOr<ModelRecord> Find(const std::string& fingerprint) const;
  // By fingerprint.
  std::vector<ModelRecord> List() const;

 private:
  // True: known with the same shape.
  StatusOr<bool> Known(const ModelRecord& model) const;

  Store& store_;
  mutable Mutex mutex_;
  std::map<std::string, ModelRecord> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband::server
