// UcxContext: UCX, set up once for a process the way Passband needs it.
//
// Features are active messages and wake-up only: with RMA on, any peer could
// write this process's memory over tcp and shared memory.
//
// Settings are Passband's unless the operator's environment says otherwise
// (UCX_...=...), with one exception: a POSIX segment of 64 KiB or more is
// refused, because UCX 1.13 then corrupts data silently.
//
// Process    the first Create() also turns UCX's log into ours (base/log.h), unless
//            UCX_LOG_FILE is set, and takes the crash signals back from it.
// Threads    may be shared by threads; each has its own worker.
// Ownership  workers and registered memory share their context.
// Errors     kInvalidArgument (an option UCX does not take, an interface that is not here),
//            kFailedPrecondition (a dangerous setting; the message says what to change),
//            kUnavailable (no transport of the list exists here).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"

struct ucp_context;

namespace passband::transport {

struct UcxOptions {
  // UCX's transport list. "auto": tcp, shared memory and loopback, and RDMA
  // lanes where the machine has an active RDMA device.
  std::string tls = "auto";
  // Whether "auto" has shared memory among them.
  bool shared_memory = true;
  // Interfaces UCX may use, as in "eth0" or "mlx5_0:1,eth0". Empty: all. Name
  // one wherever a host has several: UCX may choose one the peer cannot reach.
  std::string net_devices;
  // Ports its tcp listeners take, "50062-50093". Empty: ephemeral.
  std::string tcp_port_range;
  // Cross-memory attach. Only where peers share a PID namespace and may ptrace.
  bool cma = false;
};

class UcxContext {
 public:
  static StatusOr<std::shared_ptr<UcxContext>> Create(const UcxOptions& options);
  ~UcxContext();

  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  // The transport list in effect, for the log.
  const std::string& tls() const { return tls_; }
  ucp_context* handle() const { return handle_; }

 private:
  UcxContext(ucp_context* handle, std::string tls);

  ucp_context* handle_;
  std::string tls_;
};

}  // namespace passband::transport
