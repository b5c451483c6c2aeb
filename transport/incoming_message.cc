#include "transport/incoming_message.h"

#include <ucp/api/ucp.h>

#include <cstring>
#include <utility>

#include "transport/worker_impl.h"

namespace passband::transport {

std::span<const std::byte> IncomingMessage::data() const {
  if (rendezvous_) return {};
  return {static_cast<const std::byte*>(data_), payload_bytes_};
}

void IncomingMessage::Receive(std::span<std::byte> into, const UcxMemory* memory, Done done) {
  PASSBAND_CHECK(!received_ && refusal_.ok());
  PASSBAND_CHECK(memory == nullptr || memory->Contains(into));
  if (into.size() < payload_bytes_) {
    refusal_ = Error(StatusCode::kInvalidArgument, "a payload of {} bytes for a place of {}",
                     payload_bytes_, into.size());
    std::move(done)(refusal_);
    return;
  }
  received_ = true;
  if (!rendezvous_) {
    if (payload_bytes_ > 0) std::memcpy(into.data(), data_, payload_bytes_);
    std::move(done)(OkStatus());
    return;
  }
  UcxWorker::Impl& impl = *worker_.impl_;
  Transfer& transfer = impl.Begin("receive", std::move(done));
  transfer.sender = sender_;
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  params.cb.recv_am = &UcxWorker::Impl::OnReceived;
  params.user_data = &transfer;
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  if (memory != nullptr) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    params.memh = memory->handle();
  }
  impl.Conclude(transfer,
                ucp_am_recv_data_nbx(impl.handle, data_, into.data(), payload_bytes_, &params));
}

void IncomingMessage::Refuse(const Status& why) {
  PASSBAND_CHECK(!received_ && !why.ok());
  refusal_ = why;
}

}  // namespace passband::transport
