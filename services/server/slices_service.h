// SlicesService: the slices of a contiguous range of tokens, [kv_head][token], encoded here from
// the stored keys by a registered profile, or found in the cache: then no row is read.
//
// Threads    its data thread.
// Ownership  what it is created with must outlive it.
// Errors     those of Store::ResolveBlocks; kNotFound for an unknown profile; kFailedPrecondition
//            for a profile of another model; kInvalidArgument for more than a reply may have.
//            Answered, not returned.
#pragma once

#include <memory>

#include "kvstore/store.h"
#include "services/server/data_limits.h"
#include "services/server/encode_job.h"
#include "services/server/profile_table.h"
#include "services/server/reply_queue.h"
#include "services/server/restore_queue.h"
#include "services/server/slice_cache.h"

namespace passband::server {

class SlicesService {
 public:
  SlicesService(Store& store, const ProfileTable& profiles, SliceCache& cache, ReplyQueue& queue,
                RestoreQueue& restores, const DataLimits& limits)
      : store_(store),
        profiles_(profiles),
        cache_(cache),
        queue_(queue),
        restores_(restores),
        limits_(limits) {}

  void Serve(Request request, const transport::SlicesHeader& slices);

 private:
  // The profile, and of every block its slices or a pin, unless something is missing.
  Status Find(const std::string& tenant, SliceRange& range, MissingBlocks& missing);
  Status CheckModel(const std::string& tenant, SequenceId id, const Profile& profile) const;
  Status CheckSize(const transport::SlicesHeader& slices, const Profile& profile) const;

  Store& store_;
  const ProfileTable& profiles_;
  SliceCache& cache_;
  ReplyQueue& queue_;
  RestoreQueue& restores_;
  const DataLimits limits_;
};

}  // namespace passband::server
