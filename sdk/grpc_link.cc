#include "sdk/grpc_link.h"

#include <grpcpp/generic/generic_stub.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <condition_variable>
#include <utility>
#include <variant>
#include <vector>

#include "base/mutex.h"
#include "proto/data_frame.h"
#include "transport/codec.h"

namespace passband {
namespace {

using transport::MessageType;

constexpr char kEpochMetadata[] = "passband-epoch";
constexpr uint64_t kFraming = 64 << 10;
constexpr auto kCancelTimeout = std::chrono::seconds(5);
constexpr Duration kNone{};
// The channel takes the connection for lost before.
constexpr Duration kAnswerOfAppend = std::chrono::seconds(60);

const char* MethodName(MessageType type) {
  switch (type) {
    case MessageType::kFetch:
      return "/passband.v1.Data/Fetch";
    case MessageType::kAppend:
      return "/passband.v1.Data/Append";
    case MessageType::kSlices:
      return "/passband.v1.Data/Slices";
    default:
      return "/passband.v1.Data/Read";
  }
}

MessageType ReplyType(MessageType request) {
  return static_cast<MessageType>(static_cast<uint8_t>(request) + 1);
}

std::chrono::system_clock::time_point OnSystemClock(Time deadline) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             deadline - std::chrono::steady_clock::now());
}

// Rows to store go out from where they lie, and the call is kept with them. A question is short:
// it is copied, so that gRPC's leisure does not keep the memory of the answer.
grpc::Slice Lend(const std::shared_ptr<Call>& call) {
  if (call->payload.empty()) return {};
  if (!call->landing.empty()) return {call->payload.data(), call->payload.size()};
  return {const_cast<std::byte*>(call->payload.data()), call->payload.size(),
          [](void* raw) { delete static_cast<std::shared_ptr<Call>*>(raw); },
          new std::shared_ptr<Call>(call)};
}

class GrpcReply final : public IncomingReply {
 public:
  explicit GrpcReply(grpc::ByteBuffer& message) : reader_(message) {}
  bool ReadHeader() { return reader_.ReadHeader(); }

  std::span<const std::byte> header() const override { return reader_.header(); }
  size_t payload_bytes() const override { return reader_.payload_bytes(); }
  bool waits() const override { return false; }
  // Errors come as statuses: a reply has no text.
  std::span<const std::byte> data() const override { return {}; }
  void Receive(std::span<std::byte> into, const transport::UcxMemory*,
               transport::Done done) override {
    const bool whole = into.size() >= payload_bytes() && reader_.ReadPayload(into.data());
    std::move(done)(whole ? OkStatus() : Error(StatusCode::kDataLoss, "a reply is cut short"));
  }
  void Refuse(const Status&) override {}

 private:
  FrameReader reader_;
};

}  // namespace

// One call while it is gRPC's.
struct GrpcLink::Flight {
  CallPtr call;
  grpc::ClientContext context;
  grpc::ByteBuffer request, response;
  grpc::Status status;
};

// What has ended. Outlives the link while gRPC's threads know it.
struct GrpcLink::Inbox {
  Inbox() : event_fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { PASSBAND_CHECK(event_fd >= 0); }
  ~Inbox() { ::close(event_fd); }
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  void Add(std::shared_ptr<Flight> flight) {
    const MutexLock lock(mutex);
    ended.push_back(std::move(flight));
    --under_way;
    all_ended.notify_all();
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t bytes = ::write(event_fd, &one, sizeof(one));
  }
  std::vector<std::shared_ptr<Flight>> Take() {
    const MutexLock lock(mutex);
    if (ended.empty()) return {};
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t bytes = ::read(event_fd, &count, sizeof(count));
    return std::exchange(ended, {});
  }
  bool empty() {
    const MutexLock lock(mutex);
    return ended.empty();
  }
  void AddUnderWay() {
    const MutexLock lock(mutex);
    ++under_way;
  }
  void AwaitAll() {
    std::unique_lock lock(mutex);
    all_ended.wait_for(lock, kCancelTimeout, [this] { return under_way == 0; });
  }

  const int event_fd;
  Mutex mutex;
  std::condition_variable_any all_ended;
  std::vector<std::shared_ptr<Flight>> ended ABSL_GUARDED_BY(mutex);
  size_t under_way ABSL_GUARDED_BY(mutex) = 0;
};

struct GrpcLink::Stub {
  grpc::GenericStub generic;
};

GrpcLink::GrpcLink(const GrpcTarget& target, uint64_t max_reply_bytes)
    : encrypted_(target.encrypted()),
      stub_(new Stub{grpc::GenericStub(MakeGrpcChannel(
          target, static_cast<int>(std::min<uint64_t>(max_reply_bytes + kFraming, INT_MAX))))}),
      inbox_(std::make_shared<Inbox>()) {}

GrpcLink::~GrpcLink() {
  Close();
  inbox_->AwaitAll();
}

int GrpcLink::event_fd() const { return inbox_->event_fd; }

StatusOr<bool> GrpcLink::Arm() { return inbox_->empty(); }

Status GrpcLink::Connect(Handlers handlers) {
  handlers_ = std::move(handlers);
  connected_ = true;
  return OkStatus();
}

void GrpcLink::Close() {
  connected_ = false;
  for (const auto& [call, flight] : flights_) flight->context.TryCancel();
}

void GrpcLink::Cancel(const Call& call) {
  if (const auto found = flights_.find(&call); found != flights_.end()) {
    found->second->context.TryCancel();
  }
}

void GrpcLink::Send(const CallPtr& call) {
  auto flight = std::make_shared<Flight>();
  flight->call = call;
  // Rows to store are waited for beyond their time: whether they are stored must be known.
  const bool stores = call->request().type == MessageType::kAppend;
  flight->context.set_deadline(OnSystemClock(call->deadline + (stores ? kAnswerOfAppend : kNone)));
  const auto header =
      std::visit([](const auto& h) { return transport::HeaderBytes(h); }, call->header);
  flight->request = Frame(header, Lend(call));
  flights_.emplace(call.get(), flight);
  inbox_->AddUnderWay();
  Flight& sent = *flight;
  stub_->generic.UnaryCall(
      &sent.context, MethodName(call->request().type), grpc::StubOptions(), &sent.request,
      &sent.response, [flight = std::move(flight), inbox = inbox_](grpc::Status status) mutable {
        flight->status = std::move(status);
        inbox->Add(std::move(flight));
      });
}

bool GrpcLink::Progress() {
  const auto ended = inbox_->Take();
  for (const auto& flight : ended) {
    flights_.erase(flight->call.get());
    if (!flight->call->done) Land(*flight);
  }
  return !ended.empty();
}

void GrpcLink::Land(Flight& flight) {
  if (flight.status.ok()) {
    GrpcReply reply(flight.response);
    if (reply.ReadHeader()) {
      handlers_.on_reply(ReplyType(flight.call->request().type), reply);
    }
    if (flight.call->done) return;
    // Nothing else will come.
    return handlers_.on_error(
        flight.call,
        Error(StatusCode::kDataLoss, "the reply to request {} is malformed", flight.call->id()));
  }
  Status why = FromGrpc(flight.status, flight.context);
  const bool servers = flight.context.GetServerTrailingMetadata().contains(kEpochMetadata);
  if (why.code() == StatusCode::kUnauthenticated ||
      (why.code() == StatusCode::kUnavailable && !servers)) {
    return handlers_.on_lost(std::move(why));
  }
  handlers_.on_error(flight.call, std::move(why));
}

}  // namespace passband
