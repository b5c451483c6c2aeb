// ProfileTable: the profiles that SLICES requests may name.
//
// Threads    safe; one leaf mutex.
// Ownership  shares profiles with requests under way; they are never removed.
// Errors     those of Profile::Parse; kNotFound when its model is not registered;
//            kInvalidArgument when it does not fit the model's shape;
//            kResourceExhausted when kMaxProfiles are registered; those of Catalog: registered,
//            but not durable; may be registered again
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/catalog.h"
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

  // With a catalog, which must outlive it: waits until the profile would survive a crash.
  explicit ProfileTable(Catalog* catalog = nullptr) : catalog_(catalog) {}
  // Those of an earlier run, with the ids they had. What cannot be used is left out.
  Status Load(const ModelTable& models);

  // The id of the profile; the same for a profile (by digest) that is here already.
  StatusOr<uint64_t> Register(const std::string& json, const ModelTable& models);
  // Null when unknown.
  std::shared_ptr<const Profile> Find(uint64_t id) const;
  // By id.
  std::vector<Entry> List() const;

 private:
  struct Stored {
    std::shared_ptr<const Profile> profile;
    bool durable = false;
  };

  StatusOr<uint64_t> Add(const std::shared_ptr<const Profile>& profile, bool& durable);
  void Restore(std::string_view value, const ModelTable& models);

  Catalog* const catalog_;
  mutable Mutex mutex_;
  std::map<uint64_t, Stored> profiles_ ABSL_GUARDED_BY(mutex_);  // by id
};

}  // namespace passband::server
