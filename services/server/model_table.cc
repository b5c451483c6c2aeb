#include "services/server/model_table.h"

#include "base/log.h"
#include "services/server/control_messages.h"
#include "transport/wire.h"

namespace passband::server {
namespace {

constexpr size_t kMaxFingerprint = 256;
constexpr size_t kMaxName = 256;
constexpr uint32_t kMaxLayers = 4096;

Status Invalid(const char* field, uint64_t value, uint64_t low, uint64_t high) {
  return Error(StatusCode::kInvalidArgument, "model: {} is {}, give {} to {}", field, value, low,
               high);
}

}  // namespace

ModelSpec ModelRecord::spec() const {
  v1::Model message;
  ToMessage(*this, message);
  return {.fingerprint = fingerprint,
          .name = name,
          .shape = {.layers = layers,
                    .kv_heads = kv_heads,
                    .row_bytes = static_cast<uint32_t>(head.row_bytes())},
          .detail = message.SerializeAsString()};
}

bool ModelRecord::SameShape(const ModelRecord& other) const {
  return layers == other.layers && kv_heads == other.kv_heads && head == other.head;
}

Status CheckModel(const ModelRecord& model) {
  if (model.fingerprint.empty() || model.fingerprint.size() > kMaxFingerprint) {
    return Error(StatusCode::kInvalidArgument, "model: a fingerprint has 1 to {} characters",
                 kMaxFingerprint);
  }
  if (model.name.size() > kMaxName) {
    return Error(StatusCode::kInvalidArgument, "model: a name has at most {} characters", kMaxName);
  }
  if (model.layers < 1 || model.layers > kMaxLayers) {
    return Invalid("layers", model.layers, 1, kMaxLayers);
  }
  if (model.kv_heads < 1 || model.kv_heads > transport::kMaxKvHeads) {
    return Invalid("kv_heads", model.kv_heads, 1, transport::kMaxKvHeads);
  }
  if (model.head.head_dim < 8 || model.head.head_dim > kernels::kMaxHeadDim) {
    return Invalid("head_dim", model.head.head_dim, 8, kernels::kMaxHeadDim);
  }
  if (model.head.rotary_dim < 2 || model.head.rotary_dim > model.head.head_dim ||
      model.head.rotary_dim % 2 != 0) {
    return Error(StatusCode::kInvalidArgument,
                 "model: rotary_dim is {}, give an even number from 2 to head_dim ({})",
                 model.head.rotary_dim, model.head.head_dim);
  }
  if (model.head.row_bytes() % 16 != 0) {
    return Error(StatusCode::kInvalidArgument,
                 "model: rows of {} bytes; head_dim must make them a multiple of 16",
                 model.head.row_bytes());
  }
  return OkStatus();
}

ModelTable::ModelTable(Store& store) : store_(store) {
  for (const ModelSpec& spec : store.Models()) {
    v1::Model message;
    const bool parsed = message.ParseFromString(spec.detail);
    const StatusOr<ModelRecord> model =
        parsed ? FromMessage(message) : Error(StatusCode::kDataLoss, "its description is damaged");
    if (!model.ok()) {
      log::Warn("model_not_restored", {{"model", spec.fingerprint}, {"why", model.status()}});
      continue;
    }
    const MutexLock lock(mutex_);
    models_.emplace(model->fingerprint, *model);
  }
}

Status ModelTable::Register(const ModelRecord& model) {
  PASSBAND_RETURN_IF_ERROR(CheckModel(model));
  PASSBAND_ASSIGN_OR_RETURN(const bool known, Known(model));
  if (known) return OkStatus();
  PASSBAND_RETURN_IF_ERROR(store_.RegisterModel(model.spec()));
  const MutexLock lock(mutex_);
  models_.emplace(model.fingerprint, model);
  return OkStatus();
}

StatusOr<bool> ModelTable::Known(const ModelRecord& model) const {
  const MutexLock lock(mutex_);
  const auto found = models_.find(model.fingerprint);
  if (found != models_.end()) {
    if (found->second.SameShape(model)) return true;
    return Error(StatusCode::kAlreadyExists, "model {} is registered with another shape",
                 model.fingerprint);
  }
  if (models_.size() < kMaxModels) return false;
  return Error(StatusCode::kResourceExhausted, "{} models are registered, the limit",
               models_.size());
}

StatusOr<ModelRecord> ModelTable::Find(const std::string& fingerprint) const {
  const MutexLock lock(mutex_);
  const auto found = models_.find(fingerprint);
  if (found == models_.end()) {
    return Error(StatusCode::kNotFound, "model {} is not registered", fingerprint);
  }
  return found->second;
}

std::vector<ModelRecord> ModelTable::List() const {
  const MutexLock lock(mutex_);
  std::vector<ModelRecord> out;
  out.reserve(models_.size());
  for (const auto& entry : models_) out.push_back(entry.second);
  return out;
}

}  // namespace passband::server
