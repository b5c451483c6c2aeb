// UCX's settings, where Passband's differ from UCX's, and why (ucx_settings.cc).
//
// What the operator set, in the environment or in UCX's configuration file, stays.
// Threads    UcxContext::Create only.
#pragma once

#include <ucp/api/ucp.h>

#include <string>

#include "base/status.h"
#include "transport/ucx_context.h"

namespace passband::transport {

// The settings UCX reads once for the process: logging into base/log.h, no
// signal handlers. Repeating it does nothing.
void PrepareUcxProcess();

// kFailedPrecondition if a setting would corrupt data, with the remedy.
Status RefuseDangerousSettings();

// options.tls, with "auto" and `cma` worked out for this machine.
std::string ResolveTls(const UcxOptions& options);

Status ApplySettings(const UcxOptions& options, const std::string& tls, ucp_config_t* config);

}  // namespace passband::transport
