#include "services/server/settings.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <vector>

#include "base/config.h"
#include "base/help_format.h"
#include "base/units.h"
#include "base/version.h"
#include "kvstore/sequence_life.h"
#include "services/server/operator_policy.h"
#include "services/server/tenant_quotas.h"
#include "transport/net_devices.h"

namespace passband::server {
namespace {

constexpr char kAbout[] =
    "Keeps the keys and values of long contexts in this machine's RAM and serves them to\n"
    "inference workers.\n\n"
    "Workers find it at the control port (gRPC); rows then travel over the data port (UCX:\n"
    "shared memory on one host, TCP or RDMA between hosts). The data port has no encryption:\n"
    "keep it on a network that only workers reach, or serve rows over gRPC with TLS\n"
    "(--data-plane grpc). Open http://HOST:9461/ for a status page.\n\n"
    "Every setting is a flag, an environment variable or a line of the --config file; the\n"
    "first of these that is given wins.";
constexpr uint64_t kMinSpill = 64 * kMiB;
constexpr char kExamples[] =
    "Examples:\n"
    "  passband-server --ram 64GiB\n"
    "  passband-server --ram 64GiB --spill-dir /nvme/passband --spill-limit 1500GiB\n"
    "  passband-server --host 0.0.0.0 --net-devices eth0 --ram 200GiB --data-threads 2\n"
    "  passband-server --host 0.0.0.0 --data-plane grpc --tls-cert server.crt --tls-key server.key"
    " --tls-client-ca tenants.crt\n"
    "  PASSBAND_RAM=8GiB passband-server --config /etc/passband/server.yaml\n\n"
    "Exit codes: 0 stopped as asked, 1 cannot start, 2 wrong usage.";

// Everything as written, so that all faults can be told at once.
struct Texts {
  std::string host, control_port, data_port, http_port, net_devices, transports, operators;
  std::string ram, staging, slice_cache, data_threads, lease, stop_timeout, sequence_ttl, pin_limit,
      max_sequences, max_sessions;
  std::string huge_pages, lock_memory, log_level, log_format, ready_file;
  std::string spill_dir, spill_limit, spill_full, spill_rate, low_watermark, high_watermark;
  std::string tenant_bytes, tenant_sequences, tenant_quotas;
  std::string data_plane, tls_cert, tls_key, tls_client_ca;
};

struct Choice {
  const char* flag;
  const char* environment;
  std::string Texts::*text;
  const char* fallback;
  const char* type;
  const char* group;
  const char* help;
};

constexpr char kNetwork[] = "Network";
constexpr char kSecurity[] = "Security";
constexpr char kMemory[] = "Memory";
constexpr char kSpill[] = "More than RAM";
constexpr char kLimits[] = "Limits";
constexpr char kRunning[] = "Running";

const Choice kChoices[] = {
    {"--host", "PASSBAND_HOST", &Texts::host, "127.0.0.1", "ADDRESS", kNetwork,
     "Listen here for gRPC and HTTP. 0.0.0.0 for workers on other machines"},
    {"--control-port", "PASSBAND_CONTROL_PORT", &Texts::control_port, "50061", "PORT", kNetwork,
     "gRPC: sessions, sequences, health. 0 picks a free port"},
    {"--data-port", "PASSBAND_DATA_PORT", &Texts::data_port, "50062", "PORT", kNetwork,
     "UCX over TCP: rows. With N data threads, N ports from here on. 0: any"},
    {"--http-port", "PASSBAND_HTTP_PORT", &Texts::http_port, "9461", "PORT", kNetwork,
     "Metrics, health and the status page. 0 picks a free port"},
    {"--net-devices", "PASSBAND_NET_DEVICES", &Texts::net_devices, "", "NAMES", kNetwork,
     "Interfaces for rows, as in eth0 or mlx5_0:1,eth0. Name one on a host with several: "
     "otherwise UCX may choose one that workers cannot reach. Default: all, but lo alone "
     "when --host is a loopback address"},
    {"--transports", "PASSBAND_TRANSPORTS", &Texts::transports, "auto", "LIST", kNetwork,
     "UCX transports. auto: shared memory, TCP, and RDMA where there is a device"},
    {"--data-plane", "PASSBAND_DATA_PLANE", &Texts::data_plane, "ucx", "NAME", kNetwork,
     "How rows travel: ucx, grpc (over the control port; slower, and as safe as its TLS), or both"},
    {"--tls-cert", "PASSBAND_TLS_CERT", &Texts::tls_cert, "", "FILE", kSecurity,
     "Certificate (PEM) of the gRPC port, control and data. Read again when it changes"},
    {"--tls-key", "PASSBAND_TLS_KEY", &Texts::tls_key, "", "FILE", kSecurity,
     "Its private key (PEM), without a passphrase"},
    {"--tls-client-ca", "PASSBAND_TLS_CLIENT_CA", &Texts::tls_client_ca, "", "FILE", kSecurity,
     "Demand client certificates, signed by this authority (PEM); the certificate names the "
     "tenant: URI:spiffe://DOMAIN/tenant/NAME, or NAME as its common name"},
    {"--operators", "PASSBAND_OPERATORS", &Texts::operators, "", "WHO", kSecurity,
     "Who may list every tenant's sequences and drain this server (passband ls, inspect, "
     "drain): local, callers on this machine (the default); any, whoever reaches the control "
     "port. With --tls-client-ca: NAME[,NAME] as certificates have it, "
     "URI:spiffe://DOMAIN/operator/NAME or the common name; nobody by default"},
    {"--ram", "PASSBAND_RAM", &Texts::ram, "4GiB", "SIZE", kMemory,
     "RAM for keys and values, taken whole at start. One token of Llama-3.1-8B is 128 KiB"},
    {"--staging", "PASSBAND_STAGING", &Texts::staging, "64MiB", "SIZE", kMemory,
     "RAM for replies under way, for each data thread"},
    {"--slice-cache", "PASSBAND_SLICE_CACHE", &Texts::slice_cache, "64MiB", "SIZE", kMemory,
     "RAM, beside --ram, for slices that were encoded, so that the next attach of a prefix reads "
     "no rows: 3 KiB a token of Llama-3.1-8B at 2 bit. 0: none"},
    {"--huge-pages", "PASSBAND_HUGE_PAGES", &Texts::huge_pages, "true", "BOOL", kMemory,
     "Use huge pages where the kernel has them: about 30 % faster fetches. On by default"},
    {"--lock-memory", "PASSBAND_LOCK_MEMORY", &Texts::lock_memory, "false", "BOOL", kMemory,
     "Never swap it (mlock); needs a locked-memory limit above --ram. Off by default"},
    {"--spill-dir", "PASSBAND_SPILL_DIR", &Texts::spill_dir, "", "PATH", kSpill,
     "An existing directory of its own, on a fast disk, for what RAM has no room for; sealed "
     "sequences in it survive a restart. Default: RAM is all there is"},
    {"--spill-limit", "PASSBAND_SPILL_LIMIT", &Texts::spill_limit, "64GiB", "SIZE", kSpill,
     "Keep no more than this on the disk"},
    {"--spill-full", "PASSBAND_SPILL_FULL", &Texts::spill_full, "drop-oldest", "POLICY", kSpill,
     "When that is reached: drop-oldest forgets what was written first, whoever needs it; "
     "reject refuses new rows once RAM is full, too"},
    {"--spill-rate", "PASSBAND_SPILL_RATE", &Texts::spill_rate, "0", "SIZE", kSpill,
     "Write no more than this a second. 0: as fast as the disk"},
    {"--low-watermark", "PASSBAND_LOW_WATERMARK", &Texts::low_watermark, "80%", "PERCENT", kSpill,
     "Above this part of --ram, write to the disk what has no copy there"},
    {"--high-watermark", "PASSBAND_HIGH_WATERMARK", &Texts::high_watermark, "95%", "PERCENT",
     kSpill, "Above this part of --ram, drop from RAM what has one, coldest first"},
    {"--data-threads", "PASSBAND_DATA_THREADS", &Texts::data_threads, "1", "COUNT", kLimits,
     "Threads that serve rows; each is good for about 8 GB/s and takes one core when busy"},
    {"--lease", "PASSBAND_LEASE", &Texts::lease, "30s", "TIME", kLimits,
     "A worker that is silent for so long is taken for dead and its unsealed sequences closed"},
    {"--sequence-ttl", "PASSBAND_SEQUENCE_TTL", &Texts::sequence_ttl, "none", "TIME", kLimits,
     "A sequence that nobody used for so long is closed, sealed ones too, unless it was opened "
     "with a time of its own; none: never"},
    {"--pin-limit", "PASSBAND_PIN_LIMIT", &Texts::pin_limit, "0", "SIZE", kLimits,
     "Of --ram, what each tenant may pin: sealed sequences that stay in RAM, used or not, for the "
     "time they are pinned for. All tenants together: half of it. 0: nothing"},
    {"--max-sequences", "PASSBAND_MAX_SEQUENCES", &Texts::max_sequences, "100000", "COUNT", kLimits,
     "Sequences at a time; more are refused"},
    {"--max-sessions", "PASSBAND_MAX_SESSIONS", &Texts::max_sessions, "4096", "COUNT", kLimits,
     "Connected workers at a time; more are refused"},
    {"--tenant-bytes", "PASSBAND_TENANT_BYTES", &Texts::tenant_bytes, "none", "SIZE", kLimits,
     "Keys and values that a tenant may hold, in RAM and below; none: no limit"},
    {"--tenant-sequences", "PASSBAND_TENANT_SEQUENCES", &Texts::tenant_sequences, "none", "COUNT",
     kLimits, "Sequences that a tenant may have; none: no limit"},
    {"--tenant-quotas", "PASSBAND_TENANT_QUOTAS", &Texts::tenant_quotas, "", "LIST", kLimits,
     "Tenants with quotas of their own, NAME=SIZE:COUNT, as in a=10GiB:1000,b=none:5"},
    {"--stop-timeout", "PASSBAND_STOP_TIMEOUT", &Texts::stop_timeout, "10s", "TIME", kRunning,
     "After SIGTERM, let requests under way finish for so long"},
    {"--ready-file", "PASSBAND_READY_FILE", &Texts::ready_file, "", "PATH", kRunning,
     "Once ready, write the ports in use and the process id there, as JSON"},
    {"--log-level", "PASSBAND_LOG_LEVEL", &Texts::log_level, "info", "LEVEL", kRunning,
     "debug, info, warn, error or off"},
    {"--log-format", "PASSBAND_LOG_FORMAT", &Texts::log_format, "text", "FORMAT", kRunning,
     "text (logfmt) or json"},
};

void AddChoices(CLI::App& app, Texts& texts) {
  for (const Choice& choice : kChoices) {
    texts.*choice.text = choice.fallback;
    CLI::Option* option = app.add_option(choice.flag, texts.*choice.text, choice.help)
                              ->envname(choice.environment)
                              ->type_name(choice.type)
                              ->group(choice.group);
    if (std::string(choice.type) == "BOOL") {
      // Bare, it turns on: a default_str would be taken for the value that is missing.
      option->expected(0, 1);
    } else if (*choice.fallback != '\0') {
      option->default_str(choice.fallback);
    }
  }
}

// Collects what is wrong.
class Faults {
 public:
  template <typename... Args>
  void Add(fmt::format_string<Args...> text, Args&&... args) {
    if (!text_.empty()) text_ += '\n';
    text_ += fmt::format(text, std::forward<Args>(args)...);
  }

  void Number(const char* flag, const std::string& text, uint64_t low, uint64_t high, auto& out) {
    const std::optional<uint64_t> value = ParseCount(text);
    if (!value.has_value() || *value < low || *value > high) {
      Add("{} '{}': give a whole number from {} to {}", flag, text, low, high);
      return;
    }
    out = static_cast<std::remove_reference_t<decltype(out)>>(*value);
  }

  void Bytes(const char* flag, const std::string& text, uint64_t low, uint64_t& out) {
    const StatusOr<uint64_t> bytes = ParseBytes(text);
    if (!bytes.ok()) {
      Add("{}: {}", flag, Message(bytes.status()));
    } else if (*bytes < low) {
      Add("{} '{}': too small; give {} or more", flag, text, FormatBytes(static_cast<double>(low)));
    } else {
      out = *bytes;
    }
  }

  void Time(const char* flag, const std::string& text, std::chrono::nanoseconds low,
            std::chrono::nanoseconds& out, std::chrono::hours high = std::chrono::hours(24)) {
    const StatusOr<std::chrono::nanoseconds> time = ParseDuration(text);
    if (!time.ok()) {
      Add("{}: {}", flag, Message(time.status()));
    } else if (*time < low || *time > high) {
      Add("{} '{}': give a time from {} to {}h", flag, text,
          FormatSeconds(std::chrono::duration<double>(low).count()), high.count());
    } else {
      out = *time;
    }
  }

  void Percent(const char* flag, const std::string& text, double& out) {
    uint64_t percent = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, percent);
    const bool whole = stop == end || (stop + 1 == end && *stop == '%');
    if (error != std::errc() || !whole || percent < 1 || percent > 100) {
      Add("{} '{}': give a whole percentage from 1% to 100%", flag, text);
      return;
    }
    out = static_cast<double>(percent) / 100;
  }

  void Boolean(const char* flag, const std::string& text, bool& out) {
    if (text == "true" || text == "on" || text == "yes" || text == "1" || text.empty()) {
      out = true;
    } else if (text == "false" || text == "off" || text == "no" || text == "0") {
      out = false;
    } else {
      Add("{} '{}': give true or false", flag, text);
    }
  }

  void OneOf(const char* flag, const std::string& text, const std::vector<std::string>& names,
             std::string& out) {
    for (const std::string& name : names) {
      if (text == name) {
        out = text;
        return;
      }
    }
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    Add("{} '{}': give one of {}", flag, text, list);
  }

  Status status() const {
    return text_.empty() ? OkStatus() : Status(StatusCode::kInvalidArgument, text_);
  }

 private:
  std::string text_;
};

void CheckSpill(const Texts& texts, Settings& out, Faults& faults) {
  out.spill_dir = texts.spill_dir;
  std::string policy;
  faults.Bytes("--spill-limit", texts.spill_limit, kMinSpill, out.spill_limit_bytes);
  faults.Bytes("--spill-rate", texts.spill_rate, 0, out.spill_rate);
  faults.OneOf("--spill-full", texts.spill_full, {"drop-oldest", "reject"}, policy);
  out.spill_full = policy == "reject" ? FullTierPolicy::kReject : FullTierPolicy::kDropOldest;
  faults.Percent("--low-watermark", texts.low_watermark, out.low_watermark);
  faults.Percent("--high-watermark", texts.high_watermark, out.high_watermark);
  if (out.low_watermark > out.high_watermark) {
    faults.Add("--low-watermark {}: above --high-watermark {}; give it less", texts.low_watermark,
               texts.high_watermark);
  }
}

void CheckSecurity(const Texts& texts, Settings& out, Faults& faults) {
  std::string plane;
  faults.OneOf("--data-plane", texts.data_plane, {"ucx", "grpc", "both"}, plane);
  out.data_ucx = plane != "grpc";
  out.data_grpc = plane == "grpc" || plane == "both";
  out.tls = {.ca = texts.tls_client_ca, .certificate = texts.tls_cert, .key = texts.tls_key};
  if (!out.tls.ca.empty() && out.tls.certificate.empty()) {
    faults.Add("--tls-client-ca: needs --tls-cert and --tls-key with it");
  }
  auto operators = ParseOperatorPolicy(texts.operators, !out.tls.ca.empty());
  if (operators.ok()) {
    out.operators = *std::move(operators);
  } else {
    faults.Add("{}", Message(operators.status()));
  }
  const auto loaded = LoadTlsFiles(out.tls, {.ca = "--tls-client-ca"});
  if (!loaded.ok()) faults.Add("{}", Message(loaded.status()));
}

void CheckPorts(const Settings& settings, Faults& faults) {
  const uint32_t last = settings.data_port + settings.data_threads - 1u;
  if (settings.data_port != 0 && last > 65535) {
    faults.Add(
        "--data-port {}: {} data threads need {} ports from there on; choose one at or below {}",
        settings.data_port, settings.data_threads, settings.data_threads,
        65536 - settings.data_threads);
  }
  const auto in_data = [&](uint16_t port) {
    return port != 0 && settings.data_port != 0 && port >= settings.data_port && port <= last;
  };
  if (in_data(settings.control_port)) {
    faults.Add("--control-port {}: the data ports are {} to {}; choose another",
               settings.control_port, settings.data_port, last);
  }
  if (in_data(settings.http_port)) {
    faults.Add("--http-port {}: the data ports are {} to {}; choose another", settings.http_port,
               settings.data_port, last);
  }
  if (settings.http_port != 0 && settings.http_port == settings.control_port) {
    faults.Add("--http-port {}: also the control port; choose another", settings.http_port);
  }
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

StatusOr<Settings> Check(const Texts& texts) {
  using std::chrono::milliseconds;
  Settings out;
  Faults faults;
  if (texts.host.empty()) faults.Add("--host: give an address, 0.0.0.0 for every interface");
  if (texts.transports.empty()) faults.Add("--transports: give auto, or a list such as tcp,shm");
  out.host = texts.host;
  out.net_devices = texts.net_devices;
  // Who reaches the data port can write to this process: open it no wider than the rest.
  if (out.net_devices.empty() && IsLoopback(out.host)) out.net_devices = "lo";
  out.transports = texts.transports;
  out.ready_file = texts.ready_file;
  faults.Number("--control-port", texts.control_port, 0, 65535, out.control_port);
  faults.Number("--data-port", texts.data_port, 0, 65535, out.data_port);
  faults.Number("--http-port", texts.http_port, 0, 65535, out.http_port);
  faults.Bytes("--ram", texts.ram, kMiB, out.ram_bytes);
  faults.Bytes("--staging", texts.staging, 4 * kMiB, out.staging_bytes);
  faults.Bytes("--slice-cache", texts.slice_cache, 0, out.slice_cache_bytes);
  faults.Boolean("--huge-pages", texts.huge_pages, out.huge_pages);
  faults.Boolean("--lock-memory", texts.lock_memory, out.lock_memory);
  faults.Number("--data-threads", texts.data_threads, 1, 64, out.data_threads);
  faults.Time("--lease", texts.lease, milliseconds(100), out.lease);
  faults.Time("--stop-timeout", texts.stop_timeout, milliseconds(0), out.stop_timeout);
  if (texts.sequence_ttl != "none") {
    faults.Time("--sequence-ttl", texts.sequence_ttl, milliseconds(100), out.sequence_ttl,
                std::chrono::duration_cast<std::chrono::hours>(kMaxTtl));
  }
  faults.Bytes("--pin-limit", texts.pin_limit, 0, out.pin_limit_bytes);
  faults.Number("--max-sequences", texts.max_sequences, 1, 100'000'000, out.max_sequences);
  faults.Number("--max-sessions", texts.max_sessions, 1, 1'000'000, out.max_sessions);
  faults.OneOf("--log-level", texts.log_level, {"debug", "info", "warn", "error", "off"},
               out.log_level);
  faults.OneOf("--log-format", texts.log_format, {"text", "json"}, out.log_format);
  CheckSpill(texts, out, faults);
  const auto quotas =
      ParseTenantQuotas({texts.tenant_bytes, texts.tenant_sequences, texts.tenant_quotas});
  if (quotas.ok()) {
    out.tenant_quota = quotas->usual;
    out.tenant_quotas = quotas->named;
  } else {
    faults.Add("{}", Message(quotas.status()));
  }
  CheckSecurity(texts, out, faults);
  if (out.data_ucx) {
    const Status here = transport::CheckNetDevices(out.net_devices);
    if (!here.ok()) faults.Add("{}", Message(here));
  }
  CheckPorts(out, faults);
  PASSBAND_RETURN_IF_ERROR(faults.status());
  return out;
}

}  // namespace

StatusOr<Settings> LoadSettings(int argc, const char* const* argv) {
  CLI::App app(kAbout, "passband-server");
  UseHelpFormat(app);
  Texts texts;
  AddConfigFlag(app);
  AddChoices(app, texts);
  app.set_version_flag("--version", std::string("passband-server ") + kVersion);
  app.footer(kExamples);
  PASSBAND_RETURN_IF_ERROR(LoadConfig(app, argc, argv));
  return Check(texts);
}

}  // namespace passband::server
