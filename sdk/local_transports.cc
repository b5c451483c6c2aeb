#include "sdk/local_transports.h"

#include "transport/ucx_context.h"

namespace passband {

StatusOr<std::string> LocalTransports(const std::string& net_devices) {
  PASSBAND_ASSIGN_OR_RETURN(const auto context,
                            transport::UcxContext::Create({.net_devices = net_devices}));
  return context->tls();
}

}  // namespace passband
