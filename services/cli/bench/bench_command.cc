#include "services/cli/bench/bench_command.h"

#include <CLI/CLI.hpp>

#include "base/units.h"
#include "sdk/row_shape.h"
#include "services/cli/bench/bench_report.h"
#include "services/cli/bench/bench_run.h"
#include "services/cli/data_flags.h"
#include "services/cli/server_flags.h"

namespace passband {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  passband bench                            512 rows a fetch, one worker, 10 s\n"
    "  passband bench fetch --workers 8 --rows 2048 --verify\n"
    "  passband bench append --layers 32 --duration 30s\n"
    "  passband bench attach --tokens 32768 --data-plane grpc --json\n\n"
    "fetch   rows of one layer and all kv heads, spread over --batch sequences of\n"
    "        --tokens; the time from the request until all rows are here\n"
    "append  64 tokens in every layer of --batch sequences; until they are stored\n"
    "attach  opening over a stored prompt of --tokens, and the slices of all layers\n\n"
    "Each worker is a session with a request under way at a time. Its sequences are\n"
    "made up, and closed at the end, also by Ctrl-C; they take WORKERS x BATCH x\n"
    "TOKENS x LAYERS rows of the server's RAM. A made-up model (attach: a profile\n"
    "and cached prompts, until their RAM is needed) stays known to the server.\n"
    "Exit code 1 when a byte is wrong, the server refuses, or somebody interrupts.";

struct Flags {
  ServerFlags server;
  DataFlags data;
  std::string what = "fetch";
  uint32_t workers = 1;
  uint32_t rows = 512;
  uint32_t batch = 1;
  uint64_t tokens = 4096;
  uint32_t layers = 4;
  uint32_t kv_heads = 8;
  uint16_t head_dim = 128;
  std::string dtype = "bf16";
  std::string duration = "10s";
  std::string warm_up = "1s";
  bool verify = false;
};

StatusOr<bench::Plan> MakePlan(const Flags& flags) {
  bench::Plan plan;
  plan.what = flags.what == "append"   ? bench::What::kAppend
              : flags.what == "attach" ? bench::What::kAttach
                                       : bench::What::kFetch;
  PASSBAND_ASSIGN_OR_RETURN(const kernels::DType dtype, ParseDType(flags.dtype));
  plan.model = SyntheticModel(flags.layers, flags.kv_heads,
                              {.head_dim = flags.head_dim,
                               .rotary_dim = flags.head_dim,
                               .layout = kernels::RopeLayout::kHalf,
                               .dtype = dtype});
  plan.tokens = (flags.tokens + 63) / 64 * 64;
  plan.batch = flags.batch;
  plan.rows = flags.rows;
  plan.verify = flags.verify;
  PASSBAND_ASSIGN_OR_RETURN(plan.remote, flags.data.remote(flags.server, "passband bench"));
  return plan;
}

void CheckRows(const Flags& flags) {
  const uint64_t there = flags.tokens * flags.batch * flags.kv_heads;
  if (flags.what != "fetch" || flags.rows <= there) return;
  throw CLI::ValidationError(
      "--rows", fmt::format("{} of a fetch, and a layer has {} (--batch x --tokens x --kv-heads)",
                            flags.rows, there));
}

Status RunBenchCommand(const Flags& flags) {
  const Interruption interruption;
  PASSBAND_ASSIGN_OR_RETURN(const bench::Plan plan, MakePlan(flags));
  const bench::Timing timing = {.workers = flags.workers,
                                .warm_up = *ParseDuration(flags.warm_up),
                                .duration = *ParseDuration(flags.duration)};
  const auto outcome = RunBench(plan, timing, interruption, flags.server.json);
  if (!outcome.ok()) {
    const Status& why = outcome.status();
    if (why.code() != StatusCode::kResourceExhausted) return why;
    return Error(why.code(),
                 "{}; this needs {} there: less with --tokens, --batch, --layers or "
                 "--workers",
                 Message(why),
                 FormatBytes(static_cast<double>(flags.workers * plan.bytes_per_worker())));
  }
  if (flags.server.json) {
    PrintBenchJson(flags.what, plan, timing, *outcome);
  } else {
    PrintBenchText(flags.what, plan, timing, *outcome);
  }
  if (!outcome->interrupted) return OkStatus();
  return Error(StatusCode::kCancelled, "interrupted; what was opened is closed");
}

}  // namespace

void AddBenchCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command =
      app.add_subcommand("bench", "How fast a running server fetches, appends or attaches");
  const auto flags = std::make_shared<Flags>();
  command->add_option("WHAT", flags->what, "What to do again and again")
      ->check(CLI::IsMember({"fetch", "append", "attach"}))
      ->capture_default_str();
  flags->server.AddTo(*command);
  flags->data.AddTo(*command);
  const auto number = [&](const char* name, auto& value, auto low, auto high, const char* help) {
    using Number = std::remove_reference_t<decltype(value)>;
    command->add_option(name, value, help)
        ->check(CLI::Range(static_cast<Number>(low), static_cast<Number>(high)))
        ->type_name("COUNT")
        ->capture_default_str();
  };
  number("--workers", flags->workers, 1, 256, "Sessions, each with one request under way");
  number("--rows", flags->rows, 1, 1 << 20, "Rows of one fetch, over all kv heads");
  number("--batch", flags->batch, 1, 1024, "Sequences of a worker");
  number("--tokens", flags->tokens, 64, 1 << 22, "Tokens of a sequence, in whole blocks of 64");
  number("--layers", flags->layers, 1, 1024, "Layers of the made-up model");
  number("--kv-heads", flags->kv_heads, 1, 256, "Its kv heads");
  number("--head-dim", flags->head_dim, 8, 256, "Elements of a key");
  command->add_option("--dtype", flags->dtype, "Their type")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}))
      ->capture_default_str();
  const auto time = [&](const char* name, std::string& value, const char* help) {
    command->add_option(name, value, help)
        ->type_name("TIME")
        ->check(CheckDuration)
        ->capture_default_str();
  };
  time("--duration", flags->duration, "Measure for so long");
  time("--warm-up", flags->warm_up, "Before that, do the same without measuring");
  command->add_flag("--verify", flags->verify,
                    "Compare every byte that comes; rates then count the time for it");
  command->footer(kExamples);
  command->callback([flags, &runner] {
    CheckRows(*flags);
    runner.Choose([flags] { return RunBenchCommand(*flags); });
  });
}

}  // namespace passband
