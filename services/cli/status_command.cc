#include "services/cli/status_command.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "sdk/operator_client.h"
#include "services/cli/figures.h"
#include "services/cli/http_address.h"
#include "services/cli/server_flags.h"
#include "services/console/table.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] =
    "Examples:\n"
    "  passband status\n"
    "  passband status --server memory-node-1:50061\n"
    "  passband status --json | jq .saved_share\n\n"
    "Saved: what full attention would have read, less the rows that workers fetched.\n"
    "Hot rows: of the rows that workers chose, those they still held from earlier\n"
    "steps and did not fetch again. Prefix hits: prompt tokens that were stored\n"
    "already when a sequence was opened, and needed no prefill.";

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double SavedShare(const ServerInfo& info) {
  return std::max(0.0, 1 - Share(info.fetched_bytes, info.full_attention_bytes));
}

std::string Join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::string StatusPage(const ServerInfo& info, const std::string& server) {
  const std::string address = HttpAddress(info, server);
  return address.empty() ? "" : "http://" + address + "/";
}

void AddTraffic(const ServerInfo& info, const Terminal& terminal, Table& table) {
  const auto row = [&](const char* name, uint64_t whole, double share, const std::string& remark,
                       const char* nothing) {
    table.AddRow({name, whole == 0 ? "-" : terminal.Bold(Percent(share)),
                  terminal.Dim(whole == 0 ? nothing : remark)});
  };
  row("saved", info.full_attention_bytes, SavedShare(info),
      fmt::format("{} fetched; full attention would have read {}", Bytes(info.fetched_bytes),
                  Bytes(info.full_attention_bytes)),
      "no worker has reported a decode step yet");
  row("hot rows", info.selected_rows, Share(info.hot_rows, info.selected_rows),
      fmt::format("of {} chosen rows were still at the workers", FormatCount(info.selected_rows)),
      "no rows were chosen yet");
  row("prefix hits", info.prefix_lookup_tokens,
      Share(info.prefix_hit_tokens, info.prefix_lookup_tokens),
      fmt::format("of {} prompt tokens were stored already",
                  FormatCount(info.prefix_lookup_tokens)),
      "no sequence was opened with a prompt yet");
}

void AddState(const ServerInfo& info, const Terminal& terminal, Table& table) {
  table.AddRow({"memory", terminal.Bold(Percent(Share(info.used_bytes, info.capacity_bytes))),
                MemoryBar(info.used_bytes, info.cached_bytes, info.capacity_bytes, terminal)});
  table.AddRow({"", "",
                terminal.Dim(fmt::format(
                    "{} in sequences, {} cached prefixes, {} free, of {}",
                    Bytes(info.used_bytes - info.cached_bytes), Bytes(info.cached_bytes),
                    Bytes(info.capacity_bytes - info.used_bytes), Bytes(info.capacity_bytes)))});
  table.AddRow({"sessions", terminal.Bold(FormatCount(info.sessions)),
                terminal.Dim(info.transports.empty() ? "no data connection"
                                                     : "over " + Join(info.transports))});
  table.AddRow(
      {"sequences", terminal.Bold(FormatCount(info.sequences_open + info.sequences_sealed)),
       terminal.Dim(fmt::format("{} open, {} sealed, {} tokens", FormatCount(info.sequences_open),
                                FormatCount(info.sequences_sealed),
                                FormatCount(info.stored_tokens)))});
}

void PrintText(const ServerInfo& info, const std::string& server) {
  const Terminal terminal = Terminal::Of(stdout);
  fmt::print("passband-server {} at {}, up {}: {}\n\n", info.version, server,
             FormatSpan(info.uptime_seconds),
             info.draining ? terminal.Yellow("draining") : terminal.Green("ready"));
  Table table({{""}, {"", Align::kRight}, {""}});
  AddTraffic(info, terminal, table);
  table.AddRow({});
  AddState(info, terminal, table);
  std::fputs(table.Text(terminal).c_str(), stdout);
  const std::string page = StatusPage(info, server);
  if (!page.empty()) fmt::print("\n{} {}\n", terminal.Dim("status page"), page);
}

void PrintJson(const ServerInfo& info, const std::string& server) {
  const auto share = [](uint64_t whole, double value) { return whole == 0 ? Json() : Json(value); };
  const Json json = {
      {"schema", "passband.status/v1"},
      {"server", server},
      {"version", info.version},
      {"uptime_seconds", info.uptime_seconds},
      {"draining", info.draining},
      {"saved_share", share(info.full_attention_bytes, SavedShare(info))},
      {"fetched_bytes", info.fetched_bytes},
      {"full_attention_bytes", info.full_attention_bytes},
      {"fetched_rows", info.fetched_rows},
      {"selected_rows", info.selected_rows},
      {"hot_rows", info.hot_rows},
      {"hot_row_share", share(info.selected_rows, Share(info.hot_rows, info.selected_rows))},
      {"prefix_lookup_tokens", info.prefix_lookup_tokens},
      {"prefix_hit_tokens", info.prefix_hit_tokens},
      {"prefix_hit_share",
       share(info.prefix_lookup_tokens, Share(info.prefix_hit_tokens, info.prefix_lookup_tokens))},
      {"memory",
       {{"capacity_bytes", info.capacity_bytes},
        {"used_bytes", info.used_bytes},
        {"cached_bytes", info.cached_bytes}}},
      {"sessions", info.sessions},
      {"transports", info.transports},
      {"sequences_open", info.sequences_open},
      {"sequences_sealed", info.sequences_sealed},
      {"stored_tokens", info.stored_tokens},
      {"status_page", StatusPage(info, server)},
  };
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void AddStatusCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command =
      app.add_subcommand("status", "How a server is: what it saved, memory, sessions");
  const auto flags = std::make_shared<ServerFlags>();
  flags->AddTo(*command);
  command->footer(kExamples);
  command->callback([flags, &runner] {
    runner.Choose([flags]() -> Status {
      PASSBAND_ASSIGN_OR_RETURN(const OperatorClient::Options options, flags->client());
      PASSBAND_ASSIGN_OR_RETURN(const ServerInfo info, OperatorClient(options).Info());
      (flags->json ? PrintJson : PrintText)(info, flags->server);
      return OkStatus();
    });
  });
}

}  // namespace passband
