// Goal: no values of the server's flags crash it or are taken for something else: they make
// settings within their limits, or an error that names the flag.
#include <array>

#include "services/server/settings.h"
#include "tests/support/fuzz.h"

namespace passband::server {
namespace {

using test::Require;

// All that name no file.
constexpr std::array<const char*, 28> kFlags = {
    "--host",          "--control-port",     "--data-port",
    "--http-port",     "--net-devices",      "--transports",
    "--data-plane",    "--operators",        "--ram",
    "--staging",       "--huge-pages",       "--lock-memory",
    "--spill-limit",   "--spill-full",       "--spill-rate",
    "--low-watermark", "--high-watermark",   "--data-threads",
    "--lease",         "--max-sequences",    "--max-sessions",
    "--tenant-bytes",  "--tenant-sequences", "--tenant-quotas",
    "--stop-timeout",  "--log-level",        "--log-format",
    "--spill-dir"};

std::string Value(const char* flag, const std::string& value) {
  const auto found = std::find_if(kFlags.begin(), kFlags.end(),
                                  [&](const char* other) { return std::string(other) == flag; });
  Require(found != kFlags.end());
  return std::string(1, static_cast<char>(found - kFlags.begin())) +
         static_cast<char>(value.size()) + value;
}

std::vector<std::string> Seeds() {
  return {Value("--ram", "64GiB") + Value("--data-threads", "2") + Value("--lease", "30s"),
          Value("--tenant-quotas", "a=10GiB:1000,b=none:5") + Value("--tenant-bytes", "none"),
          Value("--low-watermark", "80%") + Value("--high-watermark", "70%"),
          Value("--control-port", "70000") + Value("--http-port", "-1"),
          Value("--data-plane", "both") + Value("--spill-full", "reject"),
          Value("--data-port", "65535") + Value("--data-threads", "64"),
          Value("--spill-limit", "0") + Value("--spill-rate", "1e30GiB"),
          Value("--stop-timeout", "-5s") + Value("--max-sessions", "99999999999999999999")};
}

void CheckLimits(const Settings& settings) {
  Require(settings.ram_bytes >= (1 << 20) && settings.staging_bytes >= (4 << 20));
  Require(settings.data_threads >= 1 && settings.data_threads <= 64);
  Require(settings.max_sessions >= 1 && settings.max_sequences >= 1);
  Require(settings.data_ucx || settings.data_grpc);
  Require(settings.low_watermark > 0 && settings.low_watermark <= settings.high_watermark &&
          settings.high_watermark <= 1);
  Require(settings.data_port == 0 || settings.data_port + settings.data_threads - 1 <= 65535);
}

}  // namespace
}  // namespace passband::server

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv, passband::server::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using passband::server::kFlags;
  passband::test::Fields fields(passband::test::Text(data, size));
  std::vector<std::string> words = {"passband-server"};
  while (!fields.Rest().empty() && words.size() < 8) {
    const std::string flag = kFlags[fields.Take<uint8_t>() % kFlags.size()];
    words.push_back(flag + "=" + fields.TakeText());
  }
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  const auto settings = passband::server::LoadSettings(static_cast<int>(argv.size()), argv.data());
  if (settings.ok()) {
    passband::server::CheckLimits(*settings);
  } else {
    passband::test::Require(passband::Message(settings.status()).find("--") != std::string::npos);
  }
  return 0;
}
