// FetchService: the rows that a decode step misses.
//
// Threads    its data thread.
// Ownership  store and queues must outlive it.
// Errors     those of Store::Resolve; kInvalidArgument for rows of another size than the client
//            expects, or more bytes than a reply may have. Answered, not returned.
#pragma once

#include <vector>

#include "kvstore/store.h"
#include "services/server/data_limits.h"
#include "services/server/reply_queue.h"
#include "services/server/restore_queue.h"
#include "transport/codec.h"

namespace passband::server {

class FetchService {
 public:
  FetchService(Store& store, ReplyQueue& queue, RestoreQueue& restores, const DataLimits& limits)
      : store_(store), queue_(queue), restores_(restores), limits_(limits) {}

  void Serve(Request request, const transport::FetchView& fetch);

 private:
  // What a fetch asks for, kept while some of it is brought back.
  struct Wanted {
    std::vector<uint32_t> tokens;
    std::vector<RowGroup> groups;  // of `tokens`
  };

  Status CheckSize(const transport::FetchHeader& header) const;
  Status Resolve(const std::string& tenant, const transport::FetchView& fetch, PinnedRows& rows);
  Status ReadGroups(const std::string& tenant, const transport::FetchView& fetch);

  Store& store_;
  ReplyQueue& queue_;
  RestoreQueue& restores_;
  const DataLimits limits_;
  // Reused from one request to the next.
  Wanted wanted_;
  MissingBlocks missing_;
};

}  // namespace passband::server
