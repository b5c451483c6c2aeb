// ReadService: whole rows of a contiguous range of tokens, [kv_head][token].
//
// Threads    its data thread.
// Ownership  store and queue must outlive it.
// Errors     those of Store::ResolveRange; kInvalidArgument for more than a reply may have.
//            Answered, not returned.
#pragma once

#include "kvstore/store.h"
#include "services/server/data_limits.h"
#include "services/server/reply_queue.h"
#include "services/server/restore_queue.h"

namespace passband::server {

class ReadService {
 public:
  ReadService(Store& store, ReplyQueue& queue, RestoreQueue& restores, const DataLimits& limits)
      : store_(store), queue_(queue), restores_(restores), limits_(limits) {}

  void Serve(Request request, const transport::ReadHeader& read);

 private:
  StatusOr<KvShape> Resolve(const std::string& tenant, const transport::ReadHeader& read,
                            PinnedRows& rows, MissingBlocks& missing);

  Store& store_;
  ReplyQueue& queue_;
  RestoreQueue& restores_;
  const DataLimits limits_;
};

}  // namespace passband::server
