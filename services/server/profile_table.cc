#include "services/server/profile_table.h"

namespace passband::server {
namespace {

Status CheckFits(const Profile& profile, const ModelRecord& model) {
  if (profile.granularity != Profile::Granularity::kKvHead) {
    return Error(StatusCode::kInvalidArgument,
                 "profile {}: chosen per query head; slices need one chosen per kv head",
                 profile.digest());
  }
  if (profile.layers != model.layers || profile.kv_heads != model.kv_heads ||
      profile.shape != model.head) {
    return Error(StatusCode::kInvalidArgument,
                 "profile {}: {} layers of {} kv heads of {} dimensions; the model has {}, {}, {}",
                 profile.digest(), profile.layers, profile.kv_heads, profile.shape.head_dim,
                 model.layers, model.kv_heads, model.head.head_dim);
  }
  return OkStatus();
}

}  // namespace

StatusOr<uint64_t> ProfileTable::Register(const std::string& json, const ModelTable& models) {
  PASSBAND_ASSIGN_OR_RETURN(std::shared_ptr<const Profile> profile, Profile::Parse(json));
  PASSBAND_ASSIGN_OR_RETURN(const ModelRecord model, models.Find(profile->fingerprint.text()));
  PASSBAND_RETURN_IF_ERROR(CheckFits(*profile, model));
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < profiles_.size(); ++i) {
    if (profiles_[i]->digest() == profile->digest()) return i + 1;
  }
  if (profiles_.size() >= kMaxProfiles) {
    return Error(StatusCode::kResourceExhausted, "{} profiles are registered, the limit",
                 profiles_.size());
  }
  profiles_.push_back(std::move(profile));
  return profiles_.size();
}

std::shared_ptr<const Profile> ProfileTable::Find(uint64_t id) const {
  const MutexLock lock(mutex_);
  return id == 0 || id > profiles_.size() ? nullptr : profiles_[id - 1];
}

std::vector<ProfileTable::Entry> ProfileTable::List() const {
  const MutexLock lock(mutex_);
  std::vector<Entry> out;
  out.reserve(profiles_.size());
  for (size_t i = 0; i < profiles_.size(); ++i) out.push_back({i + 1, profiles_[i]});
  return out;
}

}  // namespace passband::server
