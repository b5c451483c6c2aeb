#include "transport/ucx_settings.h"

#include <dlfcn.h>
#include <signal.h>
#include <ucs/config/global_opts.h>
#include <ucs/config/parser.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>
#include <ucs/sys/string.h>

#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/log.h"
#include "transport/ucx_status.h"

namespace passband::transport {
namespace {

// From this size on, a posix segment's length does not fit UCX's 16-bit field.
constexpr size_t kPosixSegmentLimit = 64 * 1024;

// What the operator set for UCX_<name>, wherever UCX itself would look.
std::optional<std::string> OperatorSetting(const std::string& name) {
  struct Value {
    char* text;
  } value{nullptr};
  ucs_config_field_t fields[] = {
      {name.c_str(), "", "", offsetof(Value, text), UCS_CONFIG_TYPE_STRING},
      {nullptr, nullptr, nullptr, 0, {}}};
  if (ucs_config_parser_fill_opts(&value, fields, UCS_DEFAULT_ENV_PREFIX, nullptr, 1) != UCS_OK) {
    return std::nullopt;
  }
  const std::string text = value.text;
  ucs_config_parser_release_opts(&value, fields);
  if (text.empty()) return std::nullopt;
  return text;
}

std::optional<size_t> OperatorBytes(const std::string& name) {
  const auto text = OperatorSetting(name);
  size_t bytes = 0;
  if (!text.has_value() || ucs_str_to_memunits(text->c_str(), &bytes) != UCS_OK) {
    return std::nullopt;
  }
  return bytes;
}

ucs_log_func_rc_t ToOurLog(const char* file, unsigned line, const char*, ucs_log_level_t level,
                           const ucs_log_component_config_t* component, const char* format,
                           va_list arguments) {
  if (level > component->log_level) return UCS_LOG_FUNC_RC_STOP;
  char text[1024];
  std::vsnprintf(text, sizeof(text), format, arguments);
  const std::string where =
      std::filesystem::path(file).filename().string() + ":" + std::to_string(line);
  if (level <= UCS_LOG_LEVEL_ERROR) {
    log::Error("ucx", {{"at", where}, {"text", text}});
  } else if (level == UCS_LOG_LEVEL_WARN) {
    log::Warn("ucx", {{"at", where}, {"text", text}});
  } else {
    log::Info("ucx", {{"at", where}, {"text", text}});
  }
  return UCS_LOG_FUNC_RC_STOP;
}

// UCX has taken over the crash signals when its library was loaded. Gives back
// those it still holds.
void ReleaseSignals() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    struct sigaction current {};
    Dl_info owner{};
    if (sigaction(signal, nullptr, &current) != 0 || current.sa_handler == SIG_DFL ||
        current.sa_handler == SIG_IGN) {
      continue;
    }
    if (dladdr(reinterpret_cast<void*>(current.sa_handler), &owner) != 0 &&
        owner.dli_fname != nullptr &&
        std::string(owner.dli_fname).find("libucs") != std::string::npos) {
      ucs_debug_disable_signal(signal);
    }
  }
}

bool PrepareOnce() {
  // Without it UCX writes its lines to standard output.
  if (!OperatorSetting("LOG_FILE")) ucs_log_push_handler(&ToOurLog);
  if (!OperatorSetting("HANDLE_ERRORS")) ReleaseSignals();
  // Before 1.14 the default of 1024 bounds the number of tcp connections.
  if (!OperatorSetting("ASYNC_MAX_EVENTS")) {
    ucs_global_opts_set_value("ASYNC_MAX_EVENTS", "16384");
  }
  if (!OperatorSetting("WARN_UNUSED_ENV_VARS")) {
    ucs_global_opts_set_value("WARN_UNUSED_ENV_VARS", "n");
  }
  if (!OperatorSetting("VFS_ENABLE")) ucs_global_opts_set_value("VFS_ENABLE", "n");
  return true;
}

bool HasActiveRdmaDevice() {
  std::error_code error;
  for (const auto& device : std::filesystem::directory_iterator("/sys/class/infiniband", error)) {
    for (const auto& port : std::filesystem::directory_iterator(device.path() / "ports", error)) {
      std::ifstream file(port.path() / "state");
      std::string state;
      if (std::getline(file, state) && state.find("ACTIVE") != std::string::npos) return true;
    }
  }
  return false;
}

bool Lists(const std::string& tls, const std::string& transport) {
  return ("," + tls + ",").find("," + transport + ",") != std::string::npos;
}

uint64_t KernelLimit(const char* name) {
  std::ifstream file(std::string("/proc/sys/net/core/") + name);
  uint64_t bytes = 0;
  file >> bytes;
  return bytes;
}

class Settings {
 public:
  explicit Settings(ucp_config_t* config) : config_(config) {}

  // Unless the operator has set UCX_<name>.
  Status Default(const std::string& name, const std::string& value) {
    if (OperatorSetting(name)) return OkStatus();
    return Set(name, value);
  }

  // A transport's setting, UCX_<transport>_<name> to the operator. Through
  // ucp_config_modify version 1.13 knows it only by the name inside the table it is
  // defined in, without the transport's, and ignores any other.
  Status TransportDefault(const std::string& transport, const std::string& name,
                          const std::string& inner_name, const std::string& value) {
    if (OperatorSetting(transport + "_" + name)) return OkStatus();
    return Default(inner_name, value);
  }

  Status TcpDefault(const std::string& name, const std::string& value) {
    return TransportDefault("TCP", name, name, value);
  }

  Status Set(const std::string& name, const std::string& value) {
    const ucs_status_t status = ucp_config_modify(config_, name.c_str(), value.c_str());
    if (status == UCS_OK) return OkStatus();
    return Error(StatusCode::kInvalidArgument, "UCX does not take {}={}: {}", name, value,
                 ucs_status_string(status));
  }

 private:
  ucp_config_t* config_;
};

Status ApplyTcp(const UcxOptions& options, Settings& settings) {
  // A reply of 0.9 MB in peer mode: 407 us with UCX's 8k/64k, 299 us with these.
  PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("TX_SEG_SIZE", "256k"));
  PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("RX_SEG_SIZE", "256k"));
  // An explicit size switches the kernel's tuning off, and is cut to its limit.
  constexpr uint64_t kBuffer = 4 << 20;
  if (KernelLimit("wmem_max") >= kBuffer) {
    PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("SNDBUF", "4m"));
  }
  if (KernelLimit("rmem_max") >= kBuffer) {
    PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("RCVBUF", "4m"));
  }
  PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("KEEPIDLE", "5s"));
  PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("KEEPINTVL", "1s"));
  PASSBAND_RETURN_IF_ERROR(settings.TcpDefault("KEEPCNT", "5"));
  if (options.tcp_port_range.empty()) return OkStatus();
  return settings.TcpDefault("PORT_RANGE", options.tcp_port_range);
}

}  // namespace

void PrepareUcxProcess() {
  static const bool prepared = PrepareOnce();
  static_cast<void>(prepared);
}

Status RefuseDangerousSettings() {
  for (const char* name : {"POSIX_SEG_SIZE", "SYSV_SEG_SIZE", "MM_SEG_SIZE", "SEG_SIZE"}) {
    const auto bytes = OperatorBytes(name);
    if (bytes.has_value() && *bytes >= kPosixSegmentLimit) {
      return Error(StatusCode::kFailedPrecondition,
                   "UCX_{}={} makes UCX 1.13 corrupt data silently over shared memory; unset it, "
                   "or set it below 64k",
                   name, *bytes);
    }
  }
  return OkStatus();
}

std::string ResolveTls(const UcxOptions& options) {
  if (const auto tls = OperatorSetting("TLS")) return *tls;
  std::string tls = options.tls;
  if (tls == "auto") {
    tls = HasActiveRdmaDevice() ? "rc,dc,ud,tcp" : "tcp";
    tls += options.shared_memory ? ",posix,self" : ",self";
  }
  if (options.cma && !Lists(tls, "cma")) tls += ",cma";
  return tls;
}

Status ApplySettings(const UcxOptions& options, const std::string& tls, ucp_config_t* config) {
  Settings settings(config);
  PASSBAND_RETURN_IF_ERROR(settings.Default("TLS", tls));
  if (!options.net_devices.empty()) {
    PASSBAND_RETURN_IF_ERROR(settings.Default("NET_DEVICES", options.net_devices));
  }
  // How soon a dead process is noticed over shared memory; UCX's own is 20 s.
  PASSBAND_RETURN_IF_ERROR(settings.Default("KEEPALIVE_INTERVAL", "1s"));
  // The new protocols are 2.8 times slower in 1.13 (default only from 1.16).
  PASSBAND_RETURN_IF_ERROR(settings.Default("PROTO_ENABLE", "n"));
  const bool all = Lists(tls, "all");
  if (all || Lists(tls, "posix") || Lists(tls, "shm") || Lists(tls, "sm") || Lists(tls, "mm")) {
    // Without it a connection in peer mode falls back to tcp, silently.
    PASSBAND_RETURN_IF_ERROR(
        settings.TransportDefault("POSIX", "ERROR_HANDLING", "MM_ERROR_HANDLING", "y"));
  }
  if (all || Lists(tls, "tcp")) return ApplyTcp(options, settings);
  return OkStatus();
}

}  // namespace passband::transport
