#include "services/cli/ls_command.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "base/units.h"
#include "services/cli/sequence_text.h"
#include "services/cli/server_flags.h"
#include "services/console/table.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  ServerFlags server;
  std::string tenant;
  uint32_t limit = 50;
  uint64_t after = 0;
};

constexpr uint32_t kMaxLimit = 1'000'000;
constexpr char kExamples[] =
    "Examples:\n"
    "  passband ls\n"
    "  passband ls --tenant search --limit 1000\n"
    "  passband ls --json | jq '.sequences[] | select(.idle_seconds > 3600)'\n\n"
    "Tokens: stored in every layer. Shared: of these, in blocks that other sequences\n"
    "or the prefix cache refer to, too. Bytes: RAM it refers to, shared blocks\n"
    "included, so that the column adds up to more than the server uses. Idle: since\n"
    "its last use. TTL: it is closed when it was idle for so long.\n"
    "Pin: it is kept, and in RAM, for so long.";

// As many pages as the limit asks for.
StatusOr<SequencePage> Collect(const Flags& flags) {
  PASSBAND_ASSIGN_OR_RETURN(const OperatorClient::Options options, flags.server.client());
  OperatorClient client(options);
  SequencePage all;
  all.more = true;
  SequenceId after(flags.after);
  while (all.more && all.sequences.size() < flags.limit) {
    const auto left = flags.limit - static_cast<uint32_t>(all.sequences.size());
    PASSBAND_ASSIGN_OR_RETURN(SequencePage page, client.List(flags.tenant, after, left));
    all.more = page.more && !page.sequences.empty();
    if (!page.sequences.empty()) after = page.sequences.back().id;
    std::move(page.sequences.begin(), page.sequences.end(), std::back_inserter(all.sequences));
    std::move(page.models.begin(), page.models.end(), std::back_inserter(all.models));
  }
  return all;
}

void PrintText(const SequencePage& page, const Flags& flags) {
  const Terminal terminal = Terminal::Of(stdout);
  if (page.sequences.empty()) {
    fmt::print("no sequences{}\n", flags.tenant.empty() ? "" : " of tenant " + flags.tenant);
    return;
  }
  Table table({{"sequence", Align::kRight},
               {"tenant"},
               {"model"},
               {"state"},
               {"tokens", Align::kRight},
               {"shared", Align::kRight},
               {"bytes", Align::kRight},
               {"idle", Align::kRight},
               {"ttl", Align::kRight},
               {"pin", Align::kRight}});
  for (const SequenceStat& stat : page.sequences) {
    table.AddRow({std::to_string(stat.id.value()), stat.tenant, ModelLabel(stat.model, page.models),
                  StateName(stat), FormatCount(stat.committed_tokens),
                  FormatCount(stat.shared_tokens),
                  FormatBytes(static_cast<double>(stat.resident_bytes)),
                  FormatSpan(stat.idle_seconds), TtlText(stat), PinText(stat)});
  }
  std::fputs(table.Text(terminal).c_str(), stdout);
  if (!page.more) return;
  fmt::print("{}\n", terminal.Dim(fmt::format("there are more: --limit shows more at once, --after "
                                              "{} the next ones",
                                              page.sequences.back().id)));
}

void PrintJson(const SequencePage& page) {
  Json json = {
      {"schema", "passband.sequences/v1"}, {"sequences", Json::array()}, {"more", page.more}};
  for (const SequenceStat& stat : page.sequences) json["sequences"].push_back(ToJson(stat));
  fmt::print("{}\n", json.dump(2));
}

Status RunLs(const Flags& flags) {
  PASSBAND_ASSIGN_OR_RETURN(const SequencePage page, Collect(flags));
  if (flags.server.json) {
    PrintJson(page);
  } else {
    PrintText(page, flags);
  }
  return OkStatus();
}

}  // namespace

void AddLsCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("ls", "The sequences of a server, of every tenant");
  const auto flags = std::make_shared<Flags>();
  flags->server.AddTo(*command);
  command->add_option("--tenant", flags->tenant, "Only this tenant's")->type_name("NAME");
  command->add_option("--limit", flags->limit, "At most so many")
      ->type_name("COUNT")
      ->check(CLI::Range(1U, kMaxLimit))
      ->capture_default_str();
  command->add_option("--after", flags->after, "Only those with larger numbers")
      ->type_name("SEQUENCE");
  command->footer(kExamples);
  command->callback([flags, &runner] { runner.Choose([flags] { return RunLs(*flags); }); });
}

}  // namespace passband
