#include "tests/chaos/client.h"

#include <algorithm>
#include <cstdio>

namespace passband::chaos {
namespace {

constexpr uint64_t kMs = 1'000'000;

}  // namespace

bool Client::Connect(const std::string& tenant) {
  RemoteOptions remote;
  remote.control_address = options_.server;
  remote.tenant = tenant;
  remote.client = "chaos-" + std::to_string(options_.index);
  remote.connect_timeout = kConnectTimeout;
  remote.control_timeout = kControlTimeout;
  remote.data_timeout = kDataTimeout;
  remote.append_retry_budget = kRetryBudget;
  remote.flush_timeout = kFlushTimeout;
  remote.transports = options_.transports;
  remote.data_plane = options_.data_plane;
  remote.net_devices = options_.net_devices;
  remote.append_bytes = 4 << 20;
  if (!options_.certificates.empty()) {
    remote.tls = CertificatesOf(options_.certificates, tenant);
    remote.tls_server_name = "localhost";
  }
  // The control plane, then the data plane.
  Begin(Operation::kConnect, 2 * kConnectTimeout);
  auto service = RemoteService::Connect(remote);
  End(service.status());
  if (!service.ok()) return false;
  service_ = *std::move(service);
  ++record_.connects;
  const Status registered = Control([](RemoteService& s) { return s.RegisterModel(ChaosModel()); });
  if (registered.ok()) return true;
  Disconnect();
  return false;
}

void Client::Disconnect() {
  if (service_ == nullptr) return;
  Begin(Operation::kDisconnect, kDisconnectTime);
  service_.reset();
  End(OkStatus());
}

void Client::LeaveIfLost(const Status& status) {
  if (status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kUnauthenticated) {
    Disconnect();
  }
}

void Client::Begin(Operation operation, std::chrono::milliseconds allowed) {
  record_.stopped_before_ns = record_.stopped_ns.load();
  record_.operation = static_cast<uint32_t>(operation);
  record_.allowed_ns = static_cast<uint64_t>(allowed.count()) * kMs;
  record_.begun_ns = NowNs();
}

void Client::End(const Status& status) {
  const uint64_t end = NowNs();
  const uint64_t begun = record_.begun_ns.exchange(0);
  const auto operation = static_cast<Operation>(record_.operation.exchange(0));
  const uint64_t stopped = record_.stopped_ns - record_.stopped_before_ns;
  const uint64_t took = end - begun - std::min(end - begun, stopped);
  const uint64_t allowed = record_.allowed_ns;
  if (took > allowed) {
    record_.longest_over_ns = std::max<uint64_t>(record_.longest_over_ns, took - allowed);
    if (took - allowed > static_cast<uint64_t>(options_.grace.count()) * kMs) {
      ++record_.hangs;
      std::fprintf(stderr, "worker %u: %s took %.2f s where %.2f may pass: %s\n", options_.index,
                   Name(operation), static_cast<double>(took) * 1e-9,
                   static_cast<double>(allowed) * 1e-9, status.ToString().c_str());
    }
  }
  if (operation == Operation::kDisconnect) return;
  ++record_.requests;
  ++record_.codes[static_cast<size_t>(status.code())];
  if (status.ok() && operation != Operation::kConnect) record_.served_ns = end;
}

}  // namespace passband::chaos
