#include "services/cli/verify_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/units.h"
#include "kvstore/sequence_census.h"
#include "kvstore/spill_verify.h"
#include "profile/profile.h"
#include "services/console/progress.h"
#include "services/console/table.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::string spill_dir;
  bool json = false;
};

struct Findings {
  SpillReport spill;
  CensusReport census;
  uint64_t unreadable_profiles = 0;

  // Without its table of contents nobody knows which sequences there are.
  bool knows_sequences() const { return spill.contents.ok(); }
  bool ok() const { return spill.ok() && census.ok() && unreadable_profiles == 0; }
  uint64_t unreadable_records() const { return census.unreadable_records + unreadable_profiles; }
};

constexpr char kExamples[] =
    "Examples:\n"
    "  passband verify --spill-dir /nvme/passband\n"
    "  passband verify --spill-dir /nvme/passband --json | jq .sequences\n\n"
    "Reads every block and every record, and changes nothing. The server must be\n"
    "stopped: while one has the directory open it is refused. A damaged sequence\n"
    "comes back without some rows, a lost one not at all; every other is whole.\n"
    "Lost blocks are those that records name and that are not whole; orphaned ones\n"
    "are whole, and named by no record, which is no damage. Prefixes are counted by\n"
    "64 tokens: those that a server finds again by their tokens, whatever became of\n"
    "their sequences; stale ones it will erase, which is no damage either.\n\n"
    "Exit codes: 0 all is whole, 1 something is damaged or lost, 2 wrong usage,\n"
    "3 the directory cannot be opened, or the disk fails.";

// A bar once it is known how much there is to read.
class ReadProgress {
 public:
  void Show(uint64_t done_bytes, uint64_t total_bytes) {
    if (!bar_.has_value()) bar_.emplace("verify", total_bytes / kMiB, "MiB");
    const uint64_t done = done_bytes / kMiB;
    bar_->Advance(done - shown_);
    shown_ = done;
  }

 private:
  std::optional<Progress> bar_;
  uint64_t shown_ = 0;
};

StatusOr<Findings> Verify(const std::string& directory) {
  Findings out;
  SequenceCensus census;
  ReadProgress progress;
  const auto record = [&](RecordKind kind, std::string_view key, std::string_view value) {
    census.Add(kind, key, value);
    if (kind != RecordKind::kProfile) return;
    const StatusOr<ProfileRecord> profile = ParseProfile(value);
    if (profile.ok() && !Profile::Parse(profile->json).ok()) ++out.unreadable_profiles;
  };
  PASSBAND_ASSIGN_OR_RETURN(
      out.spill,
      VerifySpill({.directory = directory,
                   .progress = [&](uint64_t done, uint64_t total) { progress.Show(done, total); },
                   .record = record}));
  out.census = census.Count(out.spill);
  return out;
}

std::string Count(uint64_t count) { return FormatCount(count); }

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

Table Counts(const Findings& findings) {
  const SpillReport& spill = findings.spill;
  const CensusReport& census = findings.census;
  Table table(
      {{""}, {"whole", Align::kRight}, {"damaged", Align::kRight}, {"lost", Align::kRight}, {""}});
  table.AddRow({"generations", Count(spill.generations)});
  table.AddRow({"files", Count(spill.files - spill.damaged_files - spill.missing_files),
                Count(spill.damaged_files), Count(spill.missing_files),
                Bytes(spill.read_bytes) + " read"});
  if (!findings.knows_sequences()) {
    table.AddRow({"blocks", Count(spill.blocks), Count(spill.damaged_blocks), "?",
                  Bytes(spill.block_bytes)});
    table.AddRow({"sequences", "?", "?", "?", "the table of contents cannot be read"});
    return table;
  }
  table.AddRow(
      {"blocks", Count(spill.blocks), Count(spill.damaged_blocks), Count(census.missing_blocks),
       fmt::format("{}; {} orphaned", Bytes(spill.block_bytes), Count(census.orphaned_blocks))});
  table.AddRow({"records", Count(spill.records - findings.unreadable_records()),
                Count(spill.damaged_copies + findings.unreadable_records()),
                Count(spill.lost_records),
                fmt::format("{} unreadable; {} in one copy only",
                            Count(findings.unreadable_records()), Count(spill.damaged_copies))});
  table.AddRow({"prefixes", Count(census.prefixes), Count(census.damaged_prefixes), "",
                fmt::format("{} also of sealed sequences; {} stale", Count(census.shared_prefixes),
                            Count(census.stale_prefixes))});
  table.AddRow({"sequences", Count(census.whole), Count(census.damaged), Count(census.lost),
                fmt::format("models: {}, profiles: {}", census.models,
                            census.profiles - findings.unreadable_profiles)});
  return table;
}

// What is wrong, a line each.
std::vector<std::string> Lines(const Findings& findings) {
  std::vector<std::string> lines;
  for (const HurtSequence& hurt : findings.census.hurt) {
    lines.push_back(fmt::format("sequence {} of tenant {}: {} of {} tokens lost: {}", hurt.id,
                                hurt.tenant, Count(hurt.lost_tokens), Count(hurt.tokens),
                                hurt.why));
  }
  const auto add = [&](const std::vector<std::string>& more) {
    lines.insert(lines.end(), more.begin(), more.end());
  };
  add(findings.census.findings);
  add(findings.spill.findings);
  return lines;
}

void PrintText(const Findings& findings, const std::string& directory) {
  const Terminal terminal = Terminal::Of(stdout);
  fmt::print("{}: {}\n\n", directory,
             findings.ok() ? terminal.Green("all is whole") : terminal.Red("damaged"));
  std::fputs(Counts(findings).Text(terminal, 2).c_str(), stdout);
  const std::vector<std::string> lines = Lines(findings);
  if (!lines.empty()) fmt::print("\n");
  for (const std::string& line : lines) fmt::print("  {}\n", line);
}

Json HurtJson(const CensusReport& census) {
  Json out = Json::array();
  for (const HurtSequence& hurt : census.hurt) {
    out.push_back({{"sequence", hurt.id},
                   {"tenant", hurt.tenant},
                   {"tokens", hurt.tokens},
                   {"lost_tokens", hurt.lost_tokens},
                   {"why", hurt.why}});
  }
  return out;
}

void PrintJson(const Findings& findings, const std::string& directory) {
  const SpillReport& spill = findings.spill;
  const CensusReport& census = findings.census;
  Json out = {{"schema", "passband.verify/v1"},
              {"directory", directory},
              {"whole", findings.ok()},
              {"contents", spill.contents.ok() ? Json() : Json(Message(spill.contents))},
              {"read_bytes", spill.read_bytes},
              {"generations", spill.generations}};
  out["files"] = {{"whole", spill.files - spill.damaged_files - spill.missing_files},
                  {"damaged", spill.damaged_files},
                  {"missing", spill.missing_files}};
  out["blocks"] = {
      {"whole", spill.blocks}, {"bytes", spill.block_bytes}, {"damaged", spill.damaged_blocks}};
  out["records"] = nullptr;
  out["sequences"] = nullptr;
  out["prefixes"] = nullptr;
  if (findings.knows_sequences()) {
    out["blocks"]["missing"] = census.missing_blocks;
    out["blocks"]["orphaned"] = census.orphaned_blocks;
    out["records"] = {{"whole", spill.records - findings.unreadable_records()},
                      {"unreadable", findings.unreadable_records()},
                      {"in_one_copy", spill.damaged_copies},
                      {"lost", spill.lost_records}};
    out["sequences"] = {{"whole", census.whole},
                        {"damaged", census.damaged},
                        {"lost", census.lost},
                        {"hurt", HurtJson(census)}};
    out["prefixes"] = {{"whole", census.prefixes},
                       {"of_sealed_sequences", census.shared_prefixes},
                       {"damaged", census.damaged_prefixes},
                       {"stale", census.stale_prefixes}};
  }
  out["findings"] = Lines(findings);
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

Status RunVerify(const Flags& flags) {
  const StatusOr<Findings> findings = Verify(flags.spill_dir);
  // Whatever keeps it from being opened ends in the same exit code.
  if (!findings.ok()) return Error(StatusCode::kUnavailable, "{}", Message(findings.status()));
  if (flags.json) {
    PrintJson(*findings, flags.spill_dir);
  } else {
    PrintText(*findings, flags.spill_dir);
  }
  if (findings->ok()) return OkStatus();
  return Error(StatusCode::kDataLoss,
               "'{}' is damaged; a server that starts on it serves what is whole", flags.spill_dir);
}

}  // namespace

void AddVerifyCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command =
      app.add_subcommand("verify", "Check what a stopped server left in its spill directory");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--spill-dir", flags->spill_dir, "The server's --spill-dir")
      ->type_name("PATH")
      ->envname("PASSBAND_SPILL_DIR")
      ->required();
  command->add_flag("--json", flags->json, "Print JSON");
  command->footer(kExamples);
  command->callback([flags, &runner] { runner.Choose([flags] { return RunVerify(*flags); }); });
}

}  // namespace passband
