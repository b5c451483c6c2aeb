#include "services/server/profile_table.h"

#include <utility>

#include "base/log.h"
#include "kvstore/catalog_records.h"

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

Status ProfileTable::Load(const ModelTable& models) {
  if (catalog_ == nullptr) return OkStatus();
  const auto damaged =
      catalog_->ForEach(RecordKind::kProfile,
                        [&](std::string_view, std::string_view value) { Restore(value, models); });
  PASSBAND_RETURN_IF_ERROR(damaged.status());
  if (*damaged > 0) log::Warn("profiles_damaged", {{"profiles", *damaged}});
  return OkStatus();
}

void ProfileTable::Restore(std::string_view value, const ModelTable& models) {
  const auto restore = [&]() -> Status {
    PASSBAND_ASSIGN_OR_RETURN(const ProfileRecord record, ParseProfile(value));
    PASSBAND_ASSIGN_OR_RETURN(std::shared_ptr<const Profile> profile, Profile::Parse(record.json));
    PASSBAND_ASSIGN_OR_RETURN(const ModelRecord model, models.Find(profile->fingerprint.text()));
    PASSBAND_RETURN_IF_ERROR(CheckFits(*profile, model));
    const MutexLock lock(mutex_);
    profiles_[record.id] = {.profile = std::move(profile), .durable = true};
    return OkStatus();
  };
  if (const Status restored = restore(); !restored.ok()) {
    log::Warn("profile_not_restored", {{"why", restored}});
  }
}

StatusOr<uint64_t> ProfileTable::Register(const std::string& json, const ModelTable& models) {
  PASSBAND_ASSIGN_OR_RETURN(const std::shared_ptr<const Profile> profile, Profile::Parse(json));
  PASSBAND_ASSIGN_OR_RETURN(const ModelRecord model, models.Find(profile->fingerprint.text()));
  PASSBAND_RETURN_IF_ERROR(CheckFits(*profile, model));
  bool durable = false;
  PASSBAND_ASSIGN_OR_RETURN(const uint64_t id, Add(profile, durable));
  if (durable || catalog_ == nullptr) return id;
  CatalogBatch batch;
  // Without its model it would not be restored.
  batch.Put(RecordKind::kModel, model.fingerprint, Encode(model.spec()));
  batch.Put(RecordKind::kProfile, profile->digest(), Encode(ProfileRecord{.id = id, .json = json}));
  PASSBAND_RETURN_IF_ERROR(catalog_->Write(batch));
  const MutexLock lock(mutex_);
  profiles_.at(id).durable = true;
  return id;
}

StatusOr<uint64_t> ProfileTable::Add(const std::shared_ptr<const Profile>& profile, bool& durable) {
  const MutexLock lock(mutex_);
  for (const auto& [id, stored] : profiles_) {
    if (stored.profile->digest() != profile->digest()) continue;
    durable = stored.durable;
    return id;
  }
  if (profiles_.size() >= kMaxProfiles) {
    return Error(StatusCode::kResourceExhausted, "{} profiles are registered, the limit",
                 profiles_.size());
  }
  const uint64_t id = profiles_.empty() ? 1 : profiles_.rbegin()->first + 1;
  profiles_[id].profile = profile;
  return id;
}

std::shared_ptr<const Profile> ProfileTable::Find(uint64_t id) const {
  const MutexLock lock(mutex_);
  const auto found = profiles_.find(id);
  return found == profiles_.end() ? nullptr : found->second.profile;
}

std::vector<ProfileTable::Entry> ProfileTable::List() const {
  const MutexLock lock(mutex_);
  std::vector<Entry> out;
  out.reserve(profiles_.size());
  for (const auto& [id, stored] : profiles_) out.push_back({id, stored.profile});
  return out;
}

}  // namespace passband::server
