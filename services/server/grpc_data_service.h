// GrpcDataService: the door of the data plane over gRPC. Every call comes in here, proves whose it
// is, and goes to its session's data thread.
//
// Threads    safe; runs on gRPC's threads, and never waits.
// Ownership  everything given to it must outlive it.
// Errors     answered: kInvalidArgument for what is no message, kUnauthenticated for an unknown
//            session, epoch, MAC or certificate, kResourceExhausted with a retry-after while too
//            many calls wait.
#pragma once

#include <memory>
#include <vector>

#include "passband/v1/data.grpc.pb.h"
#include "services/server/grpc_data_thread.h"
#include "services/server/session_table.h"

namespace passband::server {

class GrpcDataService final
    : public v1::Data::WithRawCallbackMethod_Fetch<
          v1::Data::WithRawCallbackMethod_Append<v1::Data::WithRawCallbackMethod_Slices<
              v1::Data::WithRawCallbackMethod_Read<v1::Data::Service>>>> {
 public:
  // `threads`: by the number that sessions have. `counters`: for what reaches no thread.
  GrpcDataService(const SessionTable& sessions,
                  const std::vector<std::unique_ptr<GrpcDataThread>>& threads,
                  ThreadCounters& counters)
      : sessions_(sessions), threads_(threads), counters_(counters) {}

 private:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;
  using Buffer = grpc::ByteBuffer;

  Reactor* Fetch(Context*, const Buffer*, Buffer*) override;
  Reactor* Append(Context*, const Buffer*, Buffer*) override;
  Reactor* Slices(Context*, const Buffer*, Buffer*) override;
  Reactor* Read(Context*, const Buffer*, Buffer*) override;

  Reactor* Accept(transport::MessageType type, Context& context, const Buffer& request,
                  Buffer& response);
  StatusOr<GrpcMailbox::Arrival> Prove(transport::MessageType type, const Context& context,
                                       const std::shared_ptr<GrpcCall>& call);
  // Counts, and says why.
  Status Refuse(TransportError error);

  const SessionTable& sessions_;
  const std::vector<std::unique_ptr<GrpcDataThread>>& threads_;
  ThreadCounters& counters_;
};

}  // namespace passband::server
