// SlicesService: the slices of a contiguous range of tokens, [kv_head][token], encoded here from
// the stored keys by a registered profile.
//
// Threads    its data thread.
// Ownership  store, profiles and queue must outlive it.
// Errors     those of Store::ResolveRange; kNotFound for an unknown profile; kFailedPrecondition
//            for a profile of another model; kInvalidArgument for more than a reply may have.
//            Answered, not returned.
#pragma once

#include <memory>

#include "kvstore/store.h"
#include "services/server/data_limits.h"
#include "services/server/profile_table.h"
#include "services/server/reply_queue.h"
#include "services/server/restore_queue.h"

namespace passband::server {

class SlicesService {
 public:
  SlicesService(Store& store, const ProfileTable& profiles, ReplyQueue& queue,
                RestoreQueue& restores, const DataLimits& limits)
      : store_(store), profiles_(profiles), queue_(queue), restores_(restores), limits_(limits) {}

  void Serve(Request request, const transport::SlicesHeader& slices);

 private:
  StatusOr<std::shared_ptr<const Profile>> Resolve(const std::string& tenant,
                                                   const transport::SlicesHeader& slices,
                                                   PinnedRows& rows, MissingBlocks& missing);
  Status CheckModel(const std::string& tenant, SequenceId id, const Profile& profile) const;
  Status CheckSize(const transport::SlicesHeader& slices, const Profile& profile) const;

  Store& store_;
  const ProfileTable& profiles_;
  ReplyQueue& queue_;
  RestoreQueue& restores_;
  const DataLimits limits_;
};

}  // namespace passband::server
