// How far the server's FETCH is from the least that could be done: the same request, answered by a
// bare UCX worker that gathers the same rows and sends them, with no session, MAC, store or queue.
//
//   server_fetch_bench [--ram 512MiB] [--rounds 2000]
//
// Both run in this process, server and client on a thread each; rows are picked at random from all
// stored ones, so they come from RAM. Rounds of the two alternate, to meet the same neighbours.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <future>
#include <random>

#include "base/hash.h"
#include "base/thread.h"
#include "base/units.h"
#include "kernels/gather.h"
#include "passband/v1/control.grpc.pb.h"
#include "services/server/server.h"
#include "services/server/staging.h"
#include "transport/codec.h"
#include "transport/ucx_endpoint.h"

namespace passband {
namespace {

using transport::MessageType;

constexpr uint32_t kRowBytes = 512;
constexpr uint16_t kKvHeads = 8;

void Require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

template <typename T>
T Value(StatusOr<T> value) {
  Require(value.status());
  return *std::move(value);
}

// Sends one message at a time and waits for its answer in registered memory.
class Client {
 public:
  Client(const std::string& tls, std::span<const std::byte> address)
      : ucx_(Value(transport::UcxContext::Create({.tls = tls}))),
        worker_(Value(transport::UcxWorker::Create(ucx_))),
        landing_(Value(server::Staging::Create(ucx_, 16 * kMiB, true))),
        buffer_(*landing_->Allocate(16 * kMiB)) {
    for (const MessageType type :
         {MessageType::kHelloAck, MessageType::kFetchReply, MessageType::kAppendAck}) {
      Require(worker_->SetHandler(transport::AmId(type), [this](transport::IncomingMessage& m) {
        std::memcpy(&reply_, m.header().data(), sizeof(reply_));
        m.Receive(buffer_.bytes(), landing_->memory(), [this](const Status& status) {
          Require(status);
          done_ = true;
        });
      }));
    }
    endpoint_ = Value(transport::UcxEndpoint::Connect(worker_, address, Require));
  }
  ~Client() {
    endpoint_.reset();
    worker_.reset();
  }

  void Call(MessageType type, std::span<const std::byte> header, std::span<const std::byte> payload,
            transport::SendMode mode) {
    done_ = false;
    endpoint_->Send(transport::AmId(type), header, payload, {.mode = mode},
                    [](const Status& status) { Require(status); });
    while (!done_) worker_->Progress();
    Require(transport::ReplyStatus(reply_, buffer_.bytes().first(reply_.payload_bytes)));
  }
  std::span<const std::byte> address() const { return worker_->address(); }
  std::span<const std::byte> landed() const { return buffer_.bytes(); }

 private:
  std::shared_ptr<transport::UcxContext> ucx_;
  std::shared_ptr<transport::UcxWorker> worker_;
  std::unique_ptr<server::Staging> landing_;
  server::Staging::Buffer buffer_;
  std::unique_ptr<transport::UcxEndpoint> endpoint_;
  transport::ReplyHeader reply_{};
  bool done_ = false;
};

// The bare peer: HELLO connects back, FETCH is gathered and sent.
class BarePeer {
 public:
  BarePeer(const std::string& tls, uint64_t rows) {
    std::promise<std::vector<std::byte>> address;
    auto started = address.get_future();
    thread_ = StartThread("bare-peer", [this, tls, rows, &address](const std::stop_token& stop) {
      Run(tls, rows, address, stop);
    });
    address_ = started.get();
  }
  std::span<const std::byte> address() const { return address_; }

 private:
  void Run(const std::string& tls, uint64_t rows, std::promise<std::vector<std::byte>>& address,
           const std::stop_token& stop) {
    const auto ucx = Value(transport::UcxContext::Create({.tls = tls}));
    const auto worker = Value(transport::UcxWorker::Create(ucx));
    const auto memory = Value(Mapping::Create({.bytes = rows * kRowBytes}));
    const auto staging = Value(server::Staging::Create(ucx, 16 * kMiB, true));
    const auto buffer = *staging->Allocate(16 * kMiB);
    std::unique_ptr<transport::UcxEndpoint> back;
    std::vector<const std::byte*> pointers;
    Require(worker->SetHandler(transport::AmId(MessageType::kHello), [&](auto& message) {
      const auto hello = Value(transport::ParseHello(message.header(), message.data()));
      back = Value(transport::UcxEndpoint::Connect(worker, hello.worker_address, [](auto) {}));
      const auto ack = transport::NewHelloAck(hello.header.request);
      back->Send(transport::AmId(MessageType::kHelloAck), transport::HeaderBytes(ack), {}, {},
                 [](auto) {});
    }));
    Require(worker->SetHandler(transport::AmId(MessageType::kFetch), [&](auto& message) {
      transport::FetchHeader header;
      std::memcpy(&header, message.header().data(), sizeof(header));
      const transport::FetchView fetch{header, message.data()};
      const auto tokens = fetch.tokens();
      pointers.resize(tokens.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        pointers[i] = memory->data() + (uint64_t{tokens[i]} * kKvHeads + i % kKvHeads) * kRowBytes;
      }
      kernels::GatherRows(pointers, kRowBytes, buffer.bytes().data());
      auto reply = transport::NewReply(header.request);
      reply.rows = tokens.size();
      reply.payload_bytes = tokens.size() * kRowBytes;
      back->Send(transport::AmId(MessageType::kFetchReply), transport::HeaderBytes(reply),
                 buffer.bytes().first(reply.payload_bytes), {.memory = staging->memory()},
                 [](auto) {});
    }));
    const auto own = worker->address();
    address.set_value({own.begin(), own.end()});
    while (!stop.stop_requested()) worker->WaitForEvent(std::chrono::milliseconds(20));
    back.reset();
  }

  std::vector<std::byte> address_;
  std::jthread thread_;
};

// A session with one filled sequence of one layer.
class Session {
 public:
  Session(const std::string& control_address, const std::string& tls, uint64_t tokens)
      : stub_(v1::Control::NewStub(
            grpc::CreateChannel(control_address, grpc::InsecureChannelCredentials()))) {
    v1::ConnectRequest connect;
    connect.set_protocol_version(1);
    Call(&v1::Control::Stub::Connect, connect, session_);
    identity_.session = session_.session();
    identity_.epoch = session_.epoch();
    std::memcpy(identity_.key.data(), session_.secret().data(), identity_.key.size());
    const std::string& address = session_.data_address();
    client_ = std::make_unique<Client>(
        tls, std::as_bytes(std::span<const char>(address.data(), address.size())));
    auto hello = transport::NewHello(identity_, 1, 1);
    transport::Sign(identity_.key, hello, client_->address());
    client_->Call(MessageType::kHello, transport::HeaderBytes(hello), client_->address(),
                  transport::SendMode::kEager);
    OpenSequence();
    Fill(tokens);
  }

  transport::RequestContext identity_;
  v1::OpenSequenceResponse sequence_;
  std::unique_ptr<Client> client_;

 private:
  template <typename Method, typename Request, typename Response>
  void Call(Method method, const Request& request, Response& response) {
    grpc::ClientContext context;
    context.AddMetadata("passband-session", fmt::format("{:016x}", session_.session()));
    context.AddMetadata("passband-token", session_.token());
    const grpc::Status status = ((*stub_).*method)(&context, request, &response);
    if (!status.ok()) Require(Error(StatusCode::kInternal, "{}", status.error_message()));
  }

  void OpenSequence() {
    v1::RegisterModelRequest model;
    model.mutable_model()->set_fingerprint("bench:bench");
    model.mutable_model()->set_layers(1);
    model.mutable_model()->set_kv_heads(kKvHeads);
    model.mutable_model()->set_head_dim(kRowBytes / 4);
    model.mutable_model()->set_rotary_dim(kRowBytes / 4);
    model.mutable_model()->set_dtype("bf16");
    model.mutable_model()->set_rope_layout("half");
    v1::RegisterModelResponse registered;
    Call(&v1::Control::Stub::RegisterModel, model, registered);
    v1::OpenSequenceRequest open;
    open.set_model("bench:bench");
    Call(&v1::Control::Stub::OpenSequence, open, sequence_);
  }

  void Fill(uint64_t tokens) {
    const std::vector<std::byte> rows(size_t{64} * kKvHeads * kRowBytes, std::byte{7});
    const uint64_t checksum = Checksum(rows);
    for (uint64_t first = 0; first < tokens; first += 64) {
      auto append = transport::NewAppend(identity_, 2 + first);
      append.sequence = sequence_.sequence();
      append.first_token = first;
      append.count = 64;
      append.row_bytes = kRowBytes;
      append.kv_heads = kKvHeads;
      append.checksum = checksum;
      transport::Sign(identity_.key, append);
      client_->Call(MessageType::kAppend, transport::HeaderBytes(append), rows,
                    transport::SendMode::kAuto);
    }
  }

  std::unique_ptr<v1::Control::Stub> stub_;
  v1::ConnectResponse session_;
};

double Percentile(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))] * 1e6;
}

void Measure(const std::string& tls, uint64_t ram, int rounds) {
  server::Settings settings;
  settings.control_port = settings.data_port = settings.http_port = 0;
  settings.ram_bytes = ram;
  settings.transports = tls;
  const auto server = Value(server::Server::Start(settings));
  const uint64_t tokens = ram * 7 / 8 / (kKvHeads * kRowBytes) / 64 * 64;
  Session session(server::HostPort(settings.host, server->endpoints().control_port), tls, tokens);
  BarePeer peer(tls, tokens * kKvHeads);
  Client bare(tls, peer.address());
  const auto hello = transport::NewHello({}, 1, 1);
  bare.Call(MessageType::kHello, transport::HeaderBytes(hello), bare.address(),
            transport::SendMode::kEager);
  std::mt19937_64 random(1);
  for (const uint32_t rows : {64U, 512U, 2048U, 8192U}) {
    std::vector<double> bare_seconds;
    std::vector<double> server_seconds;
    for (int round = -50; round < rounds; ++round) {
      transport::FetchBuilder builder;
      std::vector<uint32_t> picked(rows / kKvHeads);
      for (uint16_t head = 0; head < kKvHeads; ++head) {
        for (uint32_t& token : picked) token = static_cast<uint32_t>(random() % tokens);
        builder.Add(session.sequence_.sequence(), 0, head, picked);
      }
      auto fetch = Value(builder.Finish(session.identity_, 1, kRowBytes));
      for (const bool is_bare : {round % 2 == 0, round % 2 != 0}) {
        const Time start = std::chrono::steady_clock::now();
        if (!is_bare) transport::Sign(session.identity_.key, fetch, builder.payload());
        (is_bare ? bare : *session.client_)
            .Call(MessageType::kFetch, transport::HeaderBytes(fetch), builder.payload(),
                  transport::SendMode::kEager);
        const double seconds = Seconds(std::chrono::steady_clock::now() - start);
        if (round >= 0) (is_bare ? bare_seconds : server_seconds).push_back(seconds);
      }
    }
    const double bare_median = Percentile(bare_seconds, 0.5);
    const double median = Percentile(server_seconds, 0.5);
    std::printf("%-20s %6u rows  bare %8.1f us (p99 %8.1f)  server %8.1f us (p99 %8.1f)  %.2fx\n",
                tls.c_str(), rows, bare_median, Percentile(bare_seconds, 0.99), median,
                Percentile(server_seconds, 0.99), median / bare_median);
  }
}

}  // namespace
}  // namespace passband

int main(int argc, char** argv) {
  uint64_t ram = 512 * passband::kMiB;
  int rounds = 2000;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--ram") == 0)
      ram = passband::Value(passband::ParseBytes(argv[i + 1]));
    if (std::strcmp(argv[i], "--rounds") == 0) rounds = std::atoi(argv[i + 1]);
  }
  for (const char* tls : {"tcp,posix,self", "tcp"}) passband::Measure(tls, ram, rounds);
}
