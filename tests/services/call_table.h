// Calls: every call over gRPC, with a request that is answered when the right caller makes it,
// and what somebody else's proper credentials get. Held to the protocol's own description.
//
// Threads  plain values.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/services/grpc_client.h"

namespace passband::testing {

// What the requests are about: sequences of the owner, and what it registered.
struct Owned {
  uint64_t open = 0;    // 64 tokens, not sealed
  uint64_t sealed = 0;  // and not pinned
  uint64_t pinned = 0;
  uint64_t profile = 0;
};

enum class Access { kAnybody, kSession, kOperator };

struct ControlCall {
  Access access;
  // Of a caller that has all the rights of another tenant, and shows them.
  grpc::StatusCode other_tenant;
  std::function<std::unique_ptr<google::protobuf::Message>(const Owned&)> request;
};

struct DataCall {
  grpc::StatusCode other_tenant;
  std::function<GrpcClient::Answer(GrpcClient&, const Owned&)> send;
};

// By "/package.Service/Method".
const std::map<std::string, ControlCall>& ControlCalls();
const std::map<std::string, DataCall>& DataCalls();

// Every method of every .proto file there is.
std::set<std::string> DescribedMethods();

}  // namespace passband::testing
