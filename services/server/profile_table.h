// ProfileTable: the profiles that SLICES requests may name.
//
// Threads    safe; one leaf mutex.
// Ownership  shares profiles with requests under way; they are never removed.
// Errors     those of Profile::Parse; kNotFound when its model is not registered;
//            kInvalidArgument when it does not fit the model's shape;
//            kResourceExhausted when kMaxProfiles are registered
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "profile/profile.h"
#include "services/server/model_table.h"

namespace passband::server {

inline constexpr size_t kMaxProfiles = 256;

class ProfileTable {
 public:
  struct Entry {
    uint64_t id = 0;
    std::shared_ptr<const Profile> profile;
  };

  // The id of the profile; the same for a profile (by digest) that is here already.
  StatusOr<uint64_t> Register(const std::string& json, const ModelTable& models);
  // Null when unknown.
  std::shared_ptr<const Profile> Find(uint64_t id) const;
  // By id.
  std::vector<Entry> List() const;

 private:
  mutable Mutex mutex_;
  // Profile number n has the id n + 1.
  std::vector<std::shared_ptr<const Profile>> profiles_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband::server
