#include "tests/services/call_table.h"

#include <sstream>

#include "gtest/gtest.h"
#include "passband/v1/control.pb.h"
#include "passband/v1/operator.pb.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

using Message = google::protobuf::Message;
using grpc::NOT_FOUND;
using grpc::OK;
using grpc::PERMISSION_DENIED;

// A request that `fill` completes.
template <typename Request>
std::function<std::unique_ptr<Message>(const Owned&)> Make(
    std::function<void(Request&, const Owned&)> fill = {}) {
  return [fill = std::move(fill)](const Owned& owned) {
    auto request = std::make_unique<Request>();
    if (fill) fill(*request, owned);
    return request;
  };
}

// About one of the owner's sequences.
template <typename Request>
std::function<std::unique_ptr<Message>(const Owned&)> About(uint64_t Owned::*sequence) {
  return Make<Request>(
      [sequence](Request& request, const Owned& owned) { request.set_sequence(owned.*sequence); });
}

std::map<std::string, ControlCall> MakeControlCalls() {
  std::map<std::string, ControlCall> out;
  const auto session = [&](const char* method, grpc::StatusCode other, auto request) {
    out[std::string("/passband.v1.Control/") + method] = {Access::kSession, other,
                                                          std::move(request)};
  };
  out["/passband.v1.Control/Connect"] = {Access::kAnybody, OK,
                                         Make<v1::ConnectRequest>([](auto& request, const Owned&) {
                                           request.set_protocol_version(1);
                                         })};
  out["/passband.v1.Control/Info"] = {Access::kAnybody, OK, Make<v1::InfoRequest>()};
  session("Heartbeat", OK, Make<v1::HeartbeatRequest>());
  session("Disconnect", OK, Make<v1::DisconnectRequest>());
  // Models and profiles are the server's, not a tenant's.
  session("RegisterModel", OK, Make<v1::RegisterModelRequest>([](auto& request, const Owned&) {
            *request.mutable_model() = TestModel();
          }));
  session("ListModels", OK, Make<v1::ListModelsRequest>());
  session("RegisterProfile", OK, Make<v1::RegisterProfileRequest>([](auto& request, const Owned&) {
            request.set_profile_json(TestProfile()->ToJson());
          }));
  session("ListProfiles", OK, Make<v1::ListProfilesRequest>());
  session("OpenSequence", OK, Make<v1::OpenSequenceRequest>([](auto& request, const Owned&) {
            request.set_model(TestModel().fingerprint());
          }));
  session("ForkSequence", NOT_FOUND, About<v1::ForkSequenceRequest>(&Owned::open));
  session("ExtendSequence", NOT_FOUND,
          Make<v1::ExtendSequenceRequest>([](auto& request, const Owned& owned) {
            request.set_sequence(owned.open);
            for (uint32_t token = 0; token < 64; ++token) request.add_token_ids(token);
          }));
  session("TruncateSequence", NOT_FOUND, About<v1::TruncateSequenceRequest>(&Owned::open));
  session("SealSequence", NOT_FOUND, About<v1::SealSequenceRequest>(&Owned::open));
  session("PinSequence", NOT_FOUND, About<v1::PinSequenceRequest>(&Owned::sealed));
  session("UnpinSequence", NOT_FOUND, About<v1::UnpinSequenceRequest>(&Owned::pinned));
  session("CloseSequence", NOT_FOUND, About<v1::CloseSequenceRequest>(&Owned::open));
  session("StatSequence", NOT_FOUND, About<v1::StatSequenceRequest>(&Owned::open));
  session("ListSequences", OK, Make<v1::ListSequencesRequest>());
  session("Lookup", OK, Make<v1::LookupRequest>([](auto& request, const Owned&) {
            request.set_model(TestModel().fingerprint());
            for (uint32_t token = 0; token < 64; ++token) request.add_token_ids(token);
          }));
  const auto for_operators = [&](const char* method, auto request) {
    out[std::string("/passband.v1.Operator/") + method] = {Access::kOperator, PERMISSION_DENIED,
                                                           std::move(request)};
  };
  for_operators("ListAllSequences", Make<v1::ListAllSequencesRequest>());
  for_operators("InspectSequence", About<v1::InspectSequenceRequest>(&Owned::open));
  for_operators("Drain", Make<v1::DrainRequest>());
  return out;
}

}  // namespace

const std::map<std::string, ControlCall>& ControlCalls() {
  static const std::map<std::string, ControlCall> calls = MakeControlCalls();
  return calls;
}

const std::map<std::string, DataCall>& DataCalls() {
  static const std::map<std::string, DataCall> calls = {
      {"/passband.v1.Data/Fetch",
       {NOT_FOUND,
        [](GrpcClient& client, const Owned& owned) {
          return client.Fetch(owned.open, 0, 0, {1, 2}, kRowBytes);
        }}},
      {"/passband.v1.Data/Append",
       {NOT_FOUND,
        [](GrpcClient& client, const Owned& owned) {
          return client.Append(owned.open, 0, 64, 10, TestRows(owned.open, 0, 64, 10));
        }}},
      {"/passband.v1.Data/Slices",
       {NOT_FOUND,
        [](GrpcClient& client, const Owned& owned) {
          return client.Slices(owned.open, owned.profile, 0, 0, 10);
        }}},
      {"/passband.v1.Data/Read", {NOT_FOUND, [](GrpcClient& client, const Owned& owned) {
                                    return client.Read(owned.open, 0, 0, 10);
                                  }}}};
  return calls;
}

std::set<std::string> DescribedMethods() {
  std::set<std::string> out;
  std::istringstream files(PASSBAND_PROTO_FILES);
  for (std::string name; std::getline(files, name, ',');) {
    const auto* file = google::protobuf::DescriptorPool::generated_pool()->FindFileByName(name);
    EXPECT_NE(file, nullptr) << name << " is in no program";
    for (int s = 0; file != nullptr && s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        out.insert("/" + file->service(s)->full_name() + "/" + file->service(s)->method(m)->name());
      }
    }
  }
  return out;
}

}  // namespace passband::testing
