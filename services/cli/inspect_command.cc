#include "services/cli/inspect_command.h"

#include <cstdio>

#include "base/units.h"
#include "services/cli/sequence_text.h"
#include "services/cli/server_flags.h"
#include "services/console/table.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  ServerFlags server;
  uint64_t sequence = 0;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  passband inspect 42\n"
    "  passband inspect 42 --json\n\n"
    "The numbers of sequences are those that passband ls shows.";

std::string OwnerText(const SequenceDetail& detail) {
  if (!detail.owner.has_value()) return "none: its session has ended";
  return fmt::format(
      "{}, session {:016x}{}",
      detail.owner->client.empty() ? "a client without a name" : detail.owner->client,
      detail.owner->session, detail.owner->connection_lost ? ", data connection lost" : "");
}

void PrintText(const SequenceDetail& detail) {
  const Terminal terminal = Terminal::Of(stdout);
  const SequenceStat& stat = detail.stat;
  const ModelSummary& model = detail.model;
  Table table({{""}, {""}});
  const auto row = [&](const char* name, const std::string& value) {
    table.AddRow({terminal.Dim(name), value});
  };
  row("sequence", terminal.Bold(std::to_string(stat.id.value())));
  row("tenant", stat.tenant);
  row("state", StateName(stat));
  row("owner", OwnerText(detail));
  row("idle", stat.ttl.count() == 0 ? FormatSpan(stat.idle_seconds)
                                    : fmt::format("{}; closed when idle for {}",
                                                  FormatSpan(stat.idle_seconds), TtlText(stat)));
  if (stat.pinned_for.count() > 0) row("pinned", "in RAM, for " + PinText(stat));
  row("tokens", fmt::format("{} stored in every layer", FormatCount(stat.committed_tokens)));
  row("  findable", fmt::format("{} have known ids: others with the same prompt may start from "
                                "them",
                                FormatCount(stat.known_tokens)));
  row("  shared", fmt::format("{} in blocks that something else refers to, too",
                              FormatCount(stat.shared_tokens)));
  row("memory", FormatBytes(static_cast<double>(stat.resident_bytes)) +
                    " in blocks of 64 tokens, shared ones included");
  row("model", model.name.empty() ? "(no name)" : model.name);
  row("  fingerprint", stat.model);
  row("  shape", fmt::format("{} layers, {} kv heads of {}, {}", model.layers, model.kv_heads,
                             model.head_dim, model.dtype));
  row("  rotary", fmt::format("{} dimensions, {} layout", model.rotary_dim, model.rope_layout));
  row("  a token", FormatBytes(static_cast<double>(model.token_bytes)) + " of keys and values");
  std::fputs(table.Text(terminal).c_str(), stdout);
}

void PrintJson(const SequenceDetail& detail) {
  Json json = {{"schema", "passband.sequence/v1"}};
  json.update(ToJson(detail.stat));
  json["owner"] = nullptr;
  if (detail.owner.has_value()) {
    json["owner"] = {{"session", fmt::format("{:016x}", detail.owner->session)},
                     {"client", detail.owner->client},
                     {"connection_lost", detail.owner->connection_lost}};
  }
  json["model_name"] = detail.model.name;
  json["shape"] = {{"layers", detail.model.layers},
                   {"kv_heads", detail.model.kv_heads},
                   {"head_dim", detail.model.head_dim},
                   {"rotary_dim", detail.model.rotary_dim},
                   {"dtype", detail.model.dtype},
                   {"rope_layout", detail.model.rope_layout},
                   {"token_bytes", detail.model.token_bytes}};
  fmt::print("{}\n", json.dump(2));
}

Status RunInspect(const Flags& flags) {
  PASSBAND_ASSIGN_OR_RETURN(const OperatorClient::Options options, flags.server.client());
  OperatorClient client(options);
  PASSBAND_ASSIGN_OR_RETURN(const SequenceDetail detail,
                            client.Inspect(SequenceId(flags.sequence)));
  (flags.server.json ? PrintJson : PrintText)(detail);
  return OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("inspect", "All that a server knows of one sequence");
  const auto flags = std::make_shared<Flags>();
  command->add_option("SEQUENCE", flags->sequence, "Its number")->required();
  flags->server.AddTo(*command);
  command->footer(kExamples);
  command->callback([flags, &runner] { runner.Choose([flags] { return RunInspect(*flags); }); });
}

}  // namespace passband
