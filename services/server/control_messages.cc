#include "services/server/control_messages.h"

#include <cmath>
#include <limits>

namespace passband::server {

StatusOr<ModelRecord> FromMessage(const v1::Model& message) {
  constexpr uint32_t kMax = std::numeric_limits<uint16_t>::max();
  if (message.head_dim() > kMax || message.rotary_dim() > kMax) {
    return Error(StatusCode::kInvalidArgument, "model: head_dim {} and rotary_dim {} are too large",
                 message.head_dim(), message.rotary_dim());
  }
  ModelRecord out{.fingerprint = message.fingerprint(),
                  .name = message.name(),
                  .layers = message.layers(),
                  .kv_heads = message.kv_heads()};
  out.head.head_dim = static_cast<uint16_t>(message.head_dim());
  out.head.rotary_dim = static_cast<uint16_t>(message.rotary_dim());
  PASSBAND_ASSIGN_OR_RETURN(out.head.dtype, ParseDType(message.dtype()));
  PASSBAND_ASSIGN_OR_RETURN(out.head.layout, ParseRopeLayout(message.rope_layout()));
  PASSBAND_RETURN_IF_ERROR(CheckModel(out));
  return out;
}

void ToMessage(const ModelRecord& model, v1::Model& out) {
  out.set_fingerprint(model.fingerprint);
  out.set_name(model.name);
  out.set_layers(model.layers);
  out.set_kv_heads(model.kv_heads);
  out.set_head_dim(model.head.head_dim);
  out.set_rotary_dim(model.head.rotary_dim);
  out.set_dtype(DTypeName(model.head.dtype));
  out.set_rope_layout(RopeLayoutName(model.head.layout));
}

void ToMessage(const ProfileTable::Entry& entry, v1::ProfileSummary& out) {
  out.set_profile_id(entry.id);
  out.set_digest(entry.profile->digest());
  out.set_model(entry.profile->fingerprint.text());
  out.set_encoding(EncodingName(entry.profile->encoding));
  out.set_chunks(entry.profile->chunks());
}

void ToMessage(const SequenceInfo& info, v1::Sequence& out) {
  out.set_id(info.id.value());
  out.set_tenant(info.tenant);
  out.set_model(info.model);
  out.set_state(info.state == SequenceState::kOpen ? v1::SEQUENCE_STATE_OPEN
                                                   : v1::SEQUENCE_STATE_SEALED);
  out.set_committed_tokens(info.committed_tokens);
  out.set_known_tokens(info.known_tokens);
  out.set_shared_tokens(info.shared_tokens);
  out.set_resident_bytes(info.resident_bytes);
  out.set_idle_seconds(info.idle_seconds);
  // Rounded up: what is pinned has some time left.
  out.set_pin_ms(static_cast<uint64_t>(std::ceil(info.pin_seconds * 1e3)));
  out.set_ttl_ms(static_cast<uint64_t>(info.ttl_seconds * 1e3));
}

void ToMessage(const StoreStats& stats, v1::Memory& out) {
  out.set_capacity_bytes(stats.capacity_bytes);
  out.set_used_bytes(stats.used_bytes);
  out.set_cached_bytes(stats.cached_bytes);
}

}  // namespace passband::server
