// Dispatcher: what happens to a request whose sender is known, whatever carried it here: it is
// admitted, parsed, and given to the service that answers it.
//
// Threads    its data thread.
// Ownership  everything in Parts, and staging and queue, must outlive it.
// Errors     answered, not returned: kUnavailable once the server stops, kResourceExhausted with a
//            retry-after for one request too many, and those of the services.
#pragma once

#include <functional>
#include <span>

#include "services/server/append_service.h"
#include "services/server/fetch_service.h"
#include "services/server/read_service.h"
#include "services/server/restore_queue.h"
#include "services/server/session_table.h"
#include "services/server/slices_service.h"

namespace passband::server {

class Dispatcher {
 public:
  // What a data thread serves from.
  struct Parts {
    size_t thread = 0;  // whose sessions it serves
    Store& store;
    SessionTable& sessions;
    const ProfileTable& profiles;
    SliceCache& slices;
    ThreadCounters& counters;
    const transport::UcxMemory* arena;  // null where UCX is not used
    DataLimits limits;
  };

  // `wake` is called on other threads: Continue has something to do.
  Dispatcher(const Parts& parts, Staging& staging, ReplyQueue& queue, std::function<void()> wake);
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // From now on every request is answered with kUnavailable.
  void StopAdmitting() { admitting_ = false; }
  bool admitting() const { return admitting_; }
  // Goes on with requests whose rows were brought back. False: there are none.
  bool Continue() { return restores_.RunReady(); }
  // Requests that wait for rows to be brought back.
  size_t waiting() const { return restores_.size(); }

  // `header`: the whole of it, of `type`.
  void Serve(Request request, transport::MessageType type, std::span<const std::byte> header,
             IncomingPayload& payload);

 private:
  Status Admit(const Connection& connection) const;

  const DataLimits limits_;
  RestoreQueue restores_;
  FetchService fetch_;
  AppendService append_;
  SlicesService slices_;
  ReadService read_;
  bool admitting_ = true;
};

Method MethodOf(transport::MessageType type);

}  // namespace passband::server
