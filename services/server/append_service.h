// AppendService: receives rows into the store and publishes them.
//
// Rows that fill a block are received straight into it; others by way of staging memory. Nothing
// is visible before its checksum was right and the slot committed; whatever fails before gives
// the reservation back.
//
// Threads    its data thread.
// Ownership  store, staging and `arena` must outlive it, and it must outlive every transfer.
// Errors     those of Store::BeginAppend and Commit; kInvalidArgument for another shape than the
//            model's; kDataLoss for a wrong checksum; kResourceExhausted with a retry-after while
//            staging memory is full, or the rows before these are brought back from the tier. Answered, not returned; a payload that waits is refused.
#pragma once

#include <memory>

#include "kvstore/store.h"
#include "services/server/incoming_payload.h"
#include "services/server/request.h"
#include "services/server/restore_queue.h"
#include "services/server/staging.h"
#include "transport/wire.h"

namespace passband::server {

class AppendService {
 public:
  AppendService(Store& store, Staging& staging, RestoreQueue& restores,
                const transport::UcxMemory* arena)
      : store_(store), staging_(staging), restores_(restores), arena_(arena) {}

  void Serve(Request request, const transport::AppendHeader& append, IncomingPayload& payload);

 private:
  struct Append;

  StatusOr<Store::AppendSlot> Reserve(const std::string& tenant,
                                      const transport::AppendHeader& append);
  void ReceiveIntoBlock(std::shared_ptr<Append> append, IncomingPayload& payload);
  void ReceiveIntoStaging(std::shared_ptr<Append> append, IncomingPayload& payload);

  Store& store_;
  Staging& staging_;
  RestoreQueue& restores_;
  const transport::UcxMemory* const arena_;
};

}  // namespace passband::server
