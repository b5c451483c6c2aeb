#include "transport/ucx_worker.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "transport/worker_impl.h"

namespace passband::transport {
namespace {

// How long ~UcxWorker waits for connections to close in order.
constexpr std::chrono::seconds kCloseLimit{2};
// ... and for UCX to hand back its requests, which costs only their memory.
constexpr std::chrono::milliseconds kAbandonedLimit{100};

// Reads what UCX needs asking for once.
Status Describe(UcxWorker::Impl& impl) {
  ucp_worker_attr_t attributes{};
  attributes.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS | UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  PASSBAND_RETURN_IF_ERROR(FromUcx(ucp_worker_query(impl.handle, &attributes), "ucp_worker_query"));
  const auto* address = reinterpret_cast<const std::byte*>(attributes.address);
  impl.address.assign(address, address + attributes.address_length);
  ucp_worker_release_address(impl.handle, attributes.address);
  impl.max_header = attributes.max_am_header;
  PASSBAND_RETURN_IF_ERROR(
      FromUcx(ucp_worker_get_efd(impl.handle, &impl.event_fd), "ucp_worker_get_efd"));
  impl.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (impl.wake_fd < 0) {
    return Error(StatusCode::kResourceExhausted, "eventfd: {}", std::strerror(errno));
  }
  return OkStatus();
}

}  // namespace

UcxWorker::UcxWorker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

StatusOr<std::shared_ptr<UcxWorker>> UcxWorker::Create(std::shared_ptr<UcxContext> context,
                                                       const UcxWorkerOptions& options) {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = options.single_thread ? UCS_THREAD_MODE_SINGLE : UCS_THREAD_MODE_SERIALIZED;
  auto impl = std::make_unique<Impl>();
  impl->context = std::move(context);
  impl->options = options;
  PASSBAND_RETURN_IF_ERROR(FromUcx(
      ucp_worker_create(impl->context->handle(), &params, &impl->handle), "ucp_worker_create"));
  std::shared_ptr<UcxWorker> worker(new UcxWorker(std::move(impl)));
  PASSBAND_RETURN_IF_ERROR(Describe(*worker->impl_));
  return worker;
}

UcxWorker::~UcxWorker() {
  Impl& impl = *impl_;
  PASSBAND_CHECK(impl.depth == 0);
  impl.ending = true;
  impl.CloseSenders();
  const Time start = std::chrono::steady_clock::now();
  const auto within = [&](Duration limit) {
    return std::chrono::steady_clock::now() < start + limit;
  };
  while ((!impl.closing.empty() || !impl.transfers.empty()) && within(kCloseLimit)) Progress();
  while (!impl.abandoned.empty() && within(kAbandonedLimit)) Progress();
  if (!impl.closing.empty() || !impl.transfers.empty()) {
    log::Warn("ucx_close_incomplete",
              {{"connections", impl.closing.size()}, {"transfers", impl.transfers.size()}});
  }
  ucp_worker_destroy(impl.handle);
  // UCX forgets what it could not complete; from here on nothing touches memory.
  while (!impl.transfers.empty()) impl.Finish(impl.transfers.front(), UCS_ERR_CANCELED);
  if (impl.wake_fd >= 0) close(impl.wake_fd);
}

std::span<const std::byte> UcxWorker::address() const { return impl_->address; }

Status UcxWorker::SetHandler(uint16_t am_id, Handler handler) {
  std::unique_ptr<Impl::HandlerEntry> entry(new Impl::HandlerEntry{this, std::move(handler)});
  ucp_am_handler_param_t params{};
  params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  params.id = am_id;
  params.flags = UCP_AM_FLAG_WHOLE_MSG;
  params.cb = &UcxWorker::OnMessage;
  params.arg = entry.get();
  PASSBAND_RETURN_IF_ERROR(FromUcx(ucp_worker_set_am_recv_handler(impl_->handle, &params),
                                   "ucp_worker_set_am_recv_handler"));
  impl_->handlers.push_back(std::move(entry));
  return OkStatus();
}

ucs_status_t UcxWorker::OnMessage(void* entry, const void* header, size_t header_bytes, void* data,
                                  size_t bytes, const ucp_am_recv_param_t* params) {
  auto& handler = *static_cast<Impl::HandlerEntry*>(entry);
  const bool rendezvous = (params->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  if (handler.worker->impl_->ending) return rendezvous ? UCS_ERR_CANCELED : UCS_OK;
  ucp_ep_h sender = nullptr;
  if (rendezvous) {
    // Our own always say who they are: without it, the receive could not be ended.
    if ((params->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0) return UCS_ERR_REJECTED;
    sender = params->reply_ep;
  }
  IncomingMessage message(*handler.worker, {static_cast<const std::byte*>(header), header_bytes},
                          data, bytes, sender);
  handler.handler(message);
  if (!rendezvous || message.received_) return UCS_OK;
  return ToUcx(message.refusal_.ok() ? StatusCode::kInternal : message.refusal_.code());
}

bool UcxWorker::Progress() {
  PASSBAND_CHECK(impl_->depth == 0);
  const Impl::Inside inside(*impl_);
  return ucp_worker_progress(impl_->handle) != 0;
}

bool UcxWorker::WaitForEvent(Duration timeout) {
  const Time start = std::chrono::steady_clock::now();
  const Time deadline = start + timeout;
  const Time spin_end = std::min(deadline, start + impl_->options.spin);
  do {
    if (Progress() || impl_->woken.exchange(false)) return true;
  } while (std::chrono::steady_clock::now() < spin_end);
  const auto armed = Arm();
  const bool woken = armed.ok() && *armed ? Sleep(deadline - std::chrono::steady_clock::now())
                                          : impl_->woken.exchange(false);
  return Progress() || woken;
}

StatusOr<bool> UcxWorker::Arm() {
  const ucs_status_t status = ucp_worker_arm(impl_->handle);
  if (status == UCS_OK) return true;
  if (status == UCS_ERR_BUSY) return false;
  return FromUcx(status, "ucp_worker_arm");
}

bool UcxWorker::Sleep(Duration timeout) {
  const auto limit = std::clamp<Duration>(timeout, Duration::zero(), impl_->options.max_sleep);
  // Wake() sets `woken`, then reads `sleeping`; this, the other way round.
  impl_->sleeping.store(true);
  if (!impl_->woken.load()) {
    std::array<pollfd, 2> fds{pollfd{impl_->event_fd, POLLIN, 0},
                              pollfd{impl_->wake_fd, POLLIN, 0}};
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(limit).count();
    const timespec span{ns / 1'000'000'000, ns % 1'000'000'000};
    ppoll(fds.data(), fds.size(), &span, nullptr);
  }
  impl_->sleeping.store(false);
  uint64_t count = 0;
  // An empty eventfd is the usual case.
  [[maybe_unused]] const ssize_t bytes = read(impl_->wake_fd, &count, sizeof(count));
  return impl_->woken.exchange(false);
}

void UcxWorker::Wake() {
  impl_->woken.store(true);
  if (!impl_->sleeping.load()) return;
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the sleeper wakes anyway.
  [[maybe_unused]] const ssize_t bytes = write(impl_->wake_fd, &one, sizeof(one));
}

int UcxWorker::event_fd() const { return impl_->event_fd; }
size_t UcxWorker::outstanding() const { return impl_->transfers.size(); }
const std::shared_ptr<UcxContext>& UcxWorker::context() const { return impl_->context; }
ucp_worker* UcxWorker::handle() const { return impl_->handle; }

Transfer& UcxWorker::Impl::Begin(const char* name, Done done) {
  transfers.emplace_back(this, name, std::move(done));
  transfers.back().self = std::prev(transfers.end());
  return transfers.back();
}

void UcxWorker::Impl::Conclude(Transfer& transfer, ucs_status_ptr_t result) {
  if (!UCS_PTR_IS_PTR(result)) Finish(transfer, UCS_PTR_STATUS(result));
}

void UcxWorker::Impl::Finish(Transfer& transfer, ucs_status_t status) {
  if (transfer.done == nullptr) {
    abandoned.erase(transfer.self);
    return;
  }
  Done done = std::exchange(transfer.done, nullptr);
  const char* name = transfer.name;
  transfers.erase(transfer.self);
  std::move(done)(FromUcx(status, name));
}

void UcxWorker::Impl::OnSent(void* request, ucs_status_t status, void* transfer) {
  auto& sent = *static_cast<Transfer*>(transfer);
  sent.worker->Finish(sent, status);
  ucp_request_free(request);
}

void UcxWorker::Impl::OnReceived(void* request, ucs_status_t status, size_t, void* transfer) {
  OnSent(request, status, transfer);
}

void UcxWorker::Impl::Retire(std::unique_ptr<UcxEndpoint::Connection> connection) {
  connection->on_error = nullptr;
  closing.push_back(std::move(connection));
  closing.back()->self = std::prev(closing.end());
  if (depth == 0) StartClosing();
}

void UcxWorker::Impl::StartClosing() {
  // A close may complete transfers, whose `done` may destroy more endpoints.
  for (auto it = closing.begin(); it != closing.end(); it = closing.begin()) {
    it = std::find_if(it, closing.end(), [](const auto& c) { return !c->closing; });
    if (it == closing.end()) return;
    Close(**it);
  }
}

void UcxWorker::Impl::Close(UcxEndpoint::Connection& connection) {
  connection.closing = true;
  ++depth;
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  params.cb.send = &OnClosed;
  params.user_data = &connection;
  const ucp_ep_h endpoint = connection.handle;
  ucs_status_ptr_t result = ucp_ep_close_nbx(endpoint, &params);
  for (Transfer& transfer : transfers) {
    if (transfer.sender == endpoint) transfer.sender = nullptr;
  }
  --depth;
  if (!UCS_PTR_IS_PTR(result)) Forget(connection);
}

void UcxWorker::Impl::CloseSenders() {
  while (true) {
    const auto open = std::find_if(transfers.begin(), transfers.end(),
                                   [](const Transfer& t) { return t.sender != nullptr; });
    if (open == transfers.end()) return;
    auto connection = std::make_unique<UcxEndpoint::Connection>();
    connection->worker = this;
    connection->handle = open->sender;
    Retire(std::move(connection));
  }
}

void UcxWorker::Impl::OnClosed(void* request, ucs_status_t, void* connection) {
  auto& closed = *static_cast<UcxEndpoint::Connection*>(connection);
  closed.worker->Forget(closed);
  ucp_request_free(request);
}

void UcxWorker::Impl::Forget(UcxEndpoint::Connection& connection) {
  // Over shared memory UCX 1.13 never completes a send that was queued for a full
  // peer when the peer died. With the connection gone nobody reads its payload.
  std::vector<Done> left;
  for (auto it = transfers.begin(); it != transfers.end();) {
    const auto current = it++;
    if (current->connection != &connection) continue;
    left.push_back(std::exchange(current->done, nullptr));
    abandoned.splice(abandoned.end(), transfers, current);
  }
  const Status why = connection.status.ok()
                         ? Error(StatusCode::kCancelled, "send: endpoint destroyed")
                         : connection.status;
  closing.erase(connection.self);
  for (Done& done : left) std::move(done)(why);
}

}  // namespace passband::transport
