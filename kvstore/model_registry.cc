#include "kvstore/model_registry.h"

namespace passband {
namespace {

// Far beyond any model; with them no product of a shape overflows.
constexpr uint32_t kMaxLayers = 1 << 12;
constexpr uint32_t kMaxKvHeads = 1 << 12;
constexpr uint32_t kMaxRowBytes = 1 << 20;
constexpr uint32_t kRowAlignment = 16;

}  // namespace

Status ModelRegistry::Register(const ModelSpec& model) {
  PASSBAND_RETURN_IF_ERROR(CheckShape(model));
  MutexLock lock(mutex_);
  const auto [at, added] = models_.emplace(model.fingerprint, model);
  if (added || at->second.shape == model.shape) return OkStatus();
  return Error(StatusCode::kAlreadyExists, "model {} is known with another shape",
               model.fingerprint);
}

StatusOr<ModelSpec> ModelRegistry::Find(const std::string& fingerprint) const {
  MutexLock lock(mutex_);
  const auto found = models_.find(fingerprint);
  if (found != models_.end()) return found->second;
  return Error(StatusCode::kNotFound, "model {} is not registered", fingerprint);
}

std::vector<ModelSpec> ModelRegistry::All() const {
  std::vector<ModelSpec> models;
  MutexLock lock(mutex_);
  for (const auto& [fingerprint, model] : models_) models.push_back(model);
  return models;
}

Status ModelRegistry::CheckShape(const ModelSpec& model) const {
  const KvShape& shape = model.shape;
  if (model.fingerprint.empty()) {
    return Error(StatusCode::kInvalidArgument, "a model without a fingerprint");
  }
  if (shape.layers == 0 || shape.layers > kMaxLayers || shape.kv_heads == 0 ||
      shape.kv_heads > kMaxKvHeads || shape.row_bytes == 0 || shape.row_bytes > kMaxRowBytes ||
      shape.row_bytes % kRowAlignment != 0) {
    return Error(StatusCode::kInvalidArgument,
                 "model {}: {} layers of {} kv heads with rows of {} bytes (a multiple of {})",
                 model.fingerprint, shape.layers, shape.kv_heads, shape.row_bytes, kRowAlignment);
  }
  if (shape.block_bytes() > max_block_bytes_) {
    return Error(StatusCode::kInvalidArgument,
                 "model {}: blocks of {} bytes, but this arena takes {} at most", model.fingerprint,
                 shape.block_bytes(), max_block_bytes_);
  }
  return OkStatus();
}

}  // namespace passband
