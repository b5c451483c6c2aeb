#include "services/cli/doctor/doctor_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "services/cli/doctor/device_checks.h"
#include "services/cli/doctor/host_checks.h"
#include "services/cli/doctor/memory_checks.h"
#include "services/cli/doctor/server_check.h"
#include "services/console/table.h"

namespace passband {
namespace {

using doctor::Finding;
using doctor::Verdict;
using Json = nlohmann::ordered_json;

constexpr uint64_t kTrialBytes = 512 * kMiB;
constexpr std::chrono::milliseconds kDiskTime{3000};
constexpr char kExamples[] =
    "Examples:\n"
    "  passband doctor --ram 64GiB --spill-dir /nvme/passband\n"
    "  passband doctor --server memory-node-1:50061       from a worker's machine\n"
    "  passband doctor --strict --json                    in a preflight job\n\n"
    "Memory is really locked, the disk really written (512 MiB at most, 3 s at most, removed\n"
    "again), a data connection really made. All of it takes less than 10 s.\n"
    "Exit code 1 when something failed; with --strict also when something is only doubtful.";

struct Flags {
  ServerFlags server;
  CLI::Option* server_option = nullptr;
  std::string ram = "4GiB";
  std::string lock = "64MiB";
  std::string spill_dir;
  std::string net_devices;
  bool strict = false;
};

const char* Name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass";
    case Verdict::kWarn:
      return "warn";
    case Verdict::kFail:
      return "fail";
    case Verdict::kSkip:
      break;
  }
  return "skip";
}

std::string Styled(Verdict verdict, const Terminal& terminal) {
  switch (verdict) {
    case Verdict::kPass:
      return terminal.Green(Name(verdict));
    case Verdict::kWarn:
      return terminal.Yellow(Name(verdict));
    case Verdict::kFail:
      return terminal.Red(Name(verdict));
    case Verdict::kSkip:
      break;
  }
  return terminal.Dim(Name(verdict));
}

std::vector<std::string> Environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<Finding> Examine(const Flags& flags) {
  const doctor::ProcFiles files("");
  const uint64_t ram = *ParseBytes(flags.ram);
  const std::vector<doctor::RdmaPort> ports = doctor::RdmaPorts(files);
  std::vector<Finding> findings = {
      doctor::CheckRam(files, ram),
      doctor::CheckHugePages(files, ram),
      doctor::CheckLockedMemory(*ParseBytes(flags.lock), !ports.empty()),
      doctor::CheckSharedMemory("/dev/shm"),
      doctor::CheckProcessors(files),
      doctor::CheckFileDescriptors(),
      doctor::CheckClock(),
      doctor::CheckInterfaces(files, ports, flags.net_devices),
      doctor::CheckUcx(flags.net_devices, Environment()),
      doctor::CheckRdma(ports),
      doctor::CheckGpuDirect(files, !ports.empty()),
      doctor::CheckDisk(flags.spill_dir, kTrialBytes, kDiskTime)};
  for (Finding& finding : doctor::CheckServer(flags.server, flags.server_option->count() > 0)) {
    findings.push_back(std::move(finding));
  }
  return findings;
}

void PrintText(const std::vector<Finding>& findings) {
  const Terminal terminal = Terminal::Of(stdout);
  Table table({{""}, {""}, {""}});
  for (const Finding& finding : findings) {
    table.AddRow({Styled(finding.verdict, terminal), finding.check, finding.what});
    if (!finding.fix.empty()) table.AddRow({"", "", terminal.Cyan("fix: " + finding.fix)});
  }
  std::fputs(table.Text(terminal).c_str(), stdout);
}

void PrintJson(const std::vector<Finding>& findings, bool ok, double seconds) {
  Json json = {{"schema", "passband.doctor/v1"}, {"ok", ok}, {"seconds", seconds}};
  json["findings"] = Json::array();
  for (const Finding& finding : findings) {
    json["findings"].push_back({{"check", finding.check},
                                {"verdict", Name(finding.verdict)},
                                {"what", finding.what},
                                {"fix", finding.fix}});
  }
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

Status RunDoctor(const Flags& flags) {
  // What goes wrong is in the findings; UCX's own words would come twice.
  PASSBAND_RETURN_IF_ERROR(log::Configure("off", "text"));
  const RealClock clock;
  const Time start = clock.Now();
  const std::vector<Finding> findings = Examine(flags);
  const auto count = [&findings](Verdict verdict) {
    return std::count_if(findings.begin(), findings.end(),
                         [verdict](const Finding& finding) { return finding.verdict == verdict; });
  };
  const auto failed = count(Verdict::kFail), doubtful = count(Verdict::kWarn);
  const bool ok = failed == 0 && (doubtful == 0 || !flags.strict);
  if (flags.server.json) {
    PrintJson(findings, ok, Seconds(clock.Now() - start));
  } else {
    PrintText(findings);
  }
  if (ok) return OkStatus();
  return Error(StatusCode::kAborted, "{} failed, {} doubtful; the fixes are above", failed,
               doubtful);
}

std::string CheckBytes(const std::string& text) {
  const auto bytes = ParseBytes(text);
  return bytes.ok() ? std::string() : Message(bytes.status());
}

}  // namespace

void AddDoctorCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand(
      "doctor", "What of this machine is not as a server or worker needs it, with the fix");
  const auto flags = std::make_shared<Flags>();
  flags->server.AddTo(*command);
  flags->server_option = command->get_option("--server");
  command->add_option("--ram", flags->ram, "What the server's --ram is to be")
      ->type_name("SIZE")
      ->check(CheckBytes)
      ->capture_default_str();
  command->add_option("--lock", flags->lock, "Memory to lock, for a trial")
      ->type_name("SIZE")
      ->check(CheckBytes)
      ->capture_default_str();
  command->add_option("--spill-dir", flags->spill_dir, "Folder on the disk to try, as the server's")
      ->type_name("PATH");
  command->add_option("--net-devices", flags->net_devices, "Interfaces for rows, as the server's")
      ->type_name("NAMES");
  command->add_flag("--strict", flags->strict, "Fail on what is doubtful, too");
  command->footer(kExamples);
  command->callback([flags, &runner] { runner.Choose([flags] { return RunDoctor(*flags); }); });
}

}  // namespace passband
