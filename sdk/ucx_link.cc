#include "sdk/ucx_link.h"

#include <utility>
#include <variant>

#include "transport/codec.h"

namespace passband {
namespace {

using transport::IncomingMessage;
using transport::MessageType;

class UcxReply final : public IncomingReply {
 public:
  explicit UcxReply(IncomingMessage& message) : message_(message) {}
  std::span<const std::byte> header() const override { return message_.header(); }
  size_t payload_bytes() const override { return message_.payload_bytes(); }
  bool waits() const override { return message_.is_rendezvous(); }
  std::span<const std::byte> data() const override { return message_.data(); }
  void Receive(std::span<std::byte> into, const transport::UcxMemory* memory,
               transport::Done done) override {
    message_.Receive(into, memory, std::move(done));
  }
  void Refuse(const Status& why) override { message_.Refuse(why); }

 private:
  IncomingMessage& message_;
};

}  // namespace

StatusOr<std::unique_ptr<UcxLink>> UcxLink::Create(const transport::UcxOptions& options,
                                                   std::vector<std::byte> address) {
  PASSBAND_ASSIGN_OR_RETURN(auto context, transport::UcxContext::Create(options));
  PASSBAND_ASSIGN_OR_RETURN(auto worker,
                            transport::UcxWorker::Create(context, {.single_thread = false}));
  return std::unique_ptr<UcxLink>(
      new UcxLink(std::move(context), std::move(worker), std::move(address)));
}

UcxLink::UcxLink(std::shared_ptr<transport::UcxContext> context,
                 std::shared_ptr<transport::UcxWorker> worker, std::vector<std::byte> address)
    : context_(std::move(context)), worker_(std::move(worker)), address_(std::move(address)) {}

UcxLink::~UcxLink() {
  endpoint_.reset();
  // Transfers in flight end here, and their callbacks look at the handlers.
  worker_.reset();
}

Status UcxLink::Connect(Handlers handlers) {
  handlers_ = std::move(handlers);
  for (const MessageType type :
       {MessageType::kHelloAck, MessageType::kFetchReply, MessageType::kAppendAck,
        MessageType::kSlicesReply, MessageType::kReadReply}) {
    PASSBAND_RETURN_IF_ERROR(
        worker_->SetHandler(transport::AmId(type), [this, type](IncomingMessage& message) {
          UcxReply reply(message);
          handlers_.on_reply(type, reply);
        }));
  }
  PASSBAND_ASSIGN_OR_RETURN(
      endpoint_, transport::UcxEndpoint::Connect(
                     worker_, address_, [this](Status why) { handlers_.on_lost(std::move(why)); }));
  return OkStatus();
}

void UcxLink::Send(const CallPtr& call) {
  const auto header =
      std::visit([](const auto& h) { return transport::HeaderBytes(h); }, call->header);
  endpoint_->Send(transport::AmId(call->request().type), header, call->payload, call->send,
                  [this, call](const Status& status) {
                    if (!status.ok()) handlers_.on_unsent(call, status);
                  });
}

std::string UcxLink::transport() const {
  return endpoint_ == nullptr ? "unknown" : endpoint_->transport_name();
}

}  // namespace passband
