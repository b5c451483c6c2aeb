#include "transport/ucx_context.h"

#include <ucp/api/ucp.h>

#include <utility>

#include "base/log.h"
#include "transport/net_devices.h"
#include "transport/ucx_settings.h"
#include "transport/ucx_status.h"

namespace passband::transport {
namespace {

struct ReleaseConfig {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};

Status InitFailure(ucs_status_t status, const std::string& tls) {
  if (status == UCS_ERR_NO_DEVICE) {
    return Error(
        StatusCode::kUnavailable,
        "no UCX transport of \"{}\" works here; see `ucx_info -d`, then change the list or "
        "the interfaces",
        tls);
  }
  return FromUcx(status, "ucp_init");
}

}  // namespace

UcxContext::UcxContext(ucp_context* handle, std::string tls)
    : handle_(handle), tls_(std::move(tls)) {}

UcxContext::~UcxContext() { ucp_cleanup(handle_); }

StatusOr<std::shared_ptr<UcxContext>> UcxContext::Create(const UcxOptions& options) {
  PrepareUcxProcess();
  PASSBAND_RETURN_IF_ERROR(RefuseDangerousSettings());
  PASSBAND_RETURN_IF_ERROR(CheckNetDevices(options.net_devices));
  ucp_config_t* raw = nullptr;
  PASSBAND_RETURN_IF_ERROR(FromUcx(ucp_config_read(nullptr, nullptr, &raw), "ucp_config_read"));
  const std::unique_ptr<ucp_config_t, ReleaseConfig> config(raw);
  const std::string tls = ResolveTls(options);
  PASSBAND_RETURN_IF_ERROR(ApplySettings(options, tls, config.get()));

  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 1;
  ucp_context_h handle = nullptr;
  const ucs_status_t status = ucp_init(&params, config.get(), &handle);
  if (status != UCS_OK) return InitFailure(status, tls);
  log::Debug("ucx_ready", {{"tls", tls}, {"version", ucp_get_version_string()}});
  return std::shared_ptr<UcxContext>(new UcxContext(handle, tls));
}

}  // namespace passband::transport
