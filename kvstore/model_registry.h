// ModelRegistry: the models whose rows the store may hold, by fingerprint.
//
// Threads  safe; one leaf mutex.
// Errors   kInvalidArgument (shape), kAlreadyExists (another shape), kNotFound.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/types.h"

namespace passband {

class ModelRegistry {
 public:
  explicit ModelRegistry(uint64_t max_block_bytes) : max_block_bytes_(max_block_bytes) {}

  // Idempotent for an equal shape; the first name stays.
  Status Register(const ModelSpec& model);
  StatusOr<ModelSpec> Find(const std::string& fingerprint) const;
  std::vector<ModelSpec> All() const;  // by fingerprint

 private:
  Status CheckShape(const ModelSpec& model) const;

  const uint64_t max_block_bytes_;
  mutable Mutex mutex_;
  absl::btree_map<std::string, ModelSpec> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
