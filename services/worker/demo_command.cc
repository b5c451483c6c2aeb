#include "services/worker/demo_command.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/clock.h"
#include "base/units.h"
#include "llama/tasks.h"
#include "llama/tokenizer.h"
#include "services/console/progress.h"
#include "services/console/table.h"
#include "services/worker/conversation.h"
#include "services/worker/flags.h"
#include "services/worker/memory_report.h"
#include "services/worker/model_info.h"

namespace passband {
namespace {

constexpr uint64_t kHandle = 1;
// How many of the eight answers must be right.
constexpr size_t kAllowedMisses = 1;

struct DemoFlags {
  ModelFlags model;
  ServiceFlags service;
  std::string profile;
  std::string text;
  uint32_t budget = 256;
  uint64_t seed = 1;
};

struct DemoAnswers {
  size_t asked = 0;
  size_t right = 0;   // fasa's
  size_t agreed = 0;  // fasa and full attention say the same
};

// Makes the document's part before the first question a sequence.
StatusOr<std::unique_ptr<WorkerSequence>> Ingest(const LlamaModel& model, Engine& engine,
                                                 std::span<const uint32_t> tokens,
                                                 uint64_t& peak_layer_bytes) {
  PASSBAND_ASSIGN_OR_RETURN(auto sequence, engine.Open(tokens));
  const uint64_t attached = sequence->attached_tokens();
  Progress progress("reading", (tokens.size() - attached) * model.config().layers, "steps");
  EngineAttention attention(
      engine, model.pool(),
      {.observer = nullptr, .on_layer = [&](uint64_t steps) { progress.Advance(steps); }});
  attention.Add(kHandle, *sequence, tokens.size());
  const BatchItem item{tokens.subspan(attached), attached, kHandle, 0};
  PASSBAND_RETURN_IF_ERROR(model.Forward(std::span(&item, 1), attention).status());
  PASSBAND_RETURN_IF_ERROR(engine.Flush(*sequence));
  peak_layer_bytes = attention.peak_layer_bytes();
  return sequence;
}

std::string Verdict(const Terminal& terminal, const std::string& answer, const std::string& truth) {
  return answer == truth ? answer + terminal.Green(" ✓") : answer + terminal.Red(" ✗");
}

// Asks both the same questions and prints a line for each.
StatusOr<DemoAnswers> AskAll(const TaskDocument& document, Conversation& fasa, Conversation& full) {
  const Terminal terminal = Terminal::Of(stdout);
  const auto print = [&](const std::string& question, const std::string& truth,
                         const std::string& sparse, const std::string& exact) {
    const size_t width = DisplayWidth(question);
    fmt::print("  {}{}  {}  {}  {}\n", question, std::string(width < 36 ? 36 - width : 0, ' '),
               truth, sparse, exact);
    std::fflush(stdout);
  };
  print(terminal.Dim("question"), terminal.Dim("truth "), terminal.Dim("fasa    "),
        terminal.Dim("full attention"));
  DemoAnswers answers;
  const std::span<const uint32_t> tokens(document.tokens);
  uint32_t read = document.answers.front().cue;
  for (const Answer& answer : document.answers) {
    const auto question = tokens.subspan(read, answer.first - read);
    const std::string truth = DecodeBytes(tokens.subspan(answer.first, answer.count));
    PASSBAND_ASSIGN_OR_RETURN(const auto sparse, fasa.Ask(question, answer.count));
    PASSBAND_ASSIGN_OR_RETURN(const auto exact, full.Ask(question, answer.count));
    print("What is the code for " + answer.word + "?", truth,
          Verdict(terminal, DecodeBytes(sparse), truth),
          Verdict(terminal, DecodeBytes(exact), truth));
    ++answers.asked;
    answers.right += DecodeBytes(sparse) == truth ? 1 : 0;
    answers.agreed += sparse == exact ? 1 : 0;
    read = answer.first + answer.count;
  }
  return answers;
}

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }
std::string Percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

// Seconds of one token: `steps` counts its layers.
std::string TokenTime(const Conversation& conversation, const ModelInfo& model) {
  const auto steps = static_cast<double>(conversation.stats().steps);
  return FormatSeconds(conversation.seconds() * model.layers / std::max(steps, 1.0));
}

void PrintNumbers(const Engine& engine, const WorkerSequence& sequence, const Conversation& fasa,
                  const Conversation& full, uint64_t peak_layer_bytes) {
  const Terminal terminal = Terminal::Of(stdout);
  const ModelInfo& model = engine.model();
  MemoryReport report, full_report;
  report.AddSequence(sequence, fasa.position(), model);
  report.AddSteps(fasa.stats(), model);
  full_report.AddSteps(full.stats(), model);
  Table table(
      {{""}, {"fasa", Align::kRight}, {"full attention", Align::kRight}, {"saved", Align::kRight}});
  const double held = static_cast<double>(report.held_bytes());
  table.AddRow({"full keys and values, in the service", Bytes(report.full_kv_bytes),
                Bytes(report.full_kv_bytes)});
  table.AddRow({"held by the worker", terminal.Bold(FormatBytes(held)), Bytes(report.full_kv_bytes),
                Percent(1 - held / static_cast<double>(report.full_kv_bytes))});
  table.AddRow({"  slices of every key", Bytes(report.slice_bytes)});
  table.AddRow({"  hot rows", Bytes(report.hot_row_bytes)});
  table.AddRow({"  newest tokens", Bytes(report.tail_bytes)});
  table.AddRow({"  (while reading: one layer's rows)", Bytes(peak_layer_bytes)});
  table.AddRow({"fetched a token", terminal.Bold(FormatBytes(report.fetched_per_token)),
                FormatBytes(full_report.fetched_per_token),
                terminal.Bold(Percent(report.saved_against_full()))});
  table.AddRow(
      {"  had no row been hot", FormatBytes(report.unaided_per_token), "",
       Percent(report.full_per_token > 0 ? 1 - report.unaided_per_token / report.full_per_token
                                         : 0)});
  table.AddRow({"time a token", TokenTime(fasa, model), TokenTime(full, model)});
  fmt::print("\n{}\n", table.Text(terminal, 2));
}

Status Judge(const DemoAnswers& answers) {
  const Terminal terminal = Terminal::Of(stdout);
  fmt::print("  {} of {} answers right, {} of {} the same as under full attention\n",
             terminal.Bold(fmt::format("{}", answers.right)), answers.asked, answers.agreed,
             answers.asked);
  if (answers.agreed < answers.asked || answers.right + kAllowedMisses < answers.asked) {
    return Error(StatusCode::kInternal,
                 "the demonstration expects the answers of full attention and at most {} wrong",
                 kAllowedMisses);
  }
  return OkStatus();
}

Status RunDemo(const DemoFlags& flags) {
  PASSBAND_ASSIGN_OR_RETURN(const TaskMaker maker, TaskMaker::FromFile(flags.text));
  PASSBAND_ASSIGN_OR_RETURN(const Workbench bench, OpenWorkbench(flags.model, flags.service));
  const LlamaModel& model = *bench.model;
  PASSBAND_ASSIGN_OR_RETURN(const auto profile, LoadProfileFor(flags.profile, model));
  EngineOptions options;
  options.select.budget = flags.budget;
  options.scale = model.config().attention_scale();
  PASSBAND_ASSIGN_OR_RETURN(
      const auto engine, Engine::Create(bench.service.get(), ModelInfoOf(model), profile, options));
  PASSBAND_ASSIGN_OR_RETURN(const TaskDocument document, maker.Demo(flags.seed));
  const auto context = std::span(document.tokens).first(document.answers.front().cue);

  const Terminal terminal = Terminal::Of(stdout);
  const Time start = RealClock().Now();
  uint64_t peak_layer_bytes = 0;
  PASSBAND_ASSIGN_OR_RETURN(const auto book, Ingest(model, *engine, context, peak_layer_bytes));
  fmt::print("\n  {} read {} bytes of a book with 16 codes in it in {}.\n",
             terminal.Bold(model.name()), FormatCount(context.size()),
             FormatSeconds(Seconds(RealClock().Now() - start)));
  fmt::print("  Its {} of keys and values are in the service ({}).\n\n",
             Bytes(context.size() * engine->model().token_bytes()), bench.service->transport());

  PASSBAND_ASSIGN_OR_RETURN(const auto fasa_sequence, engine->Fork(*book, context.size()));
  PASSBAND_ASSIGN_OR_RETURN(const auto full_sequence, engine->Fork(*book, context.size()));
  Conversation fasa(model, *engine, *fasa_sequence, false);
  Conversation full(model, *engine, *full_sequence, true);
  PASSBAND_ASSIGN_OR_RETURN(const DemoAnswers answers, AskAll(document, fasa, full));
  PrintNumbers(*engine, *fasa_sequence, fasa, full, peak_layer_bytes);
  return Judge(answers);
}

}  // namespace

void AddDemoCommand(CLI::App& app, CommandRunner& runner) {
  const auto flags = std::make_shared<DemoFlags>();
  CLI::App* command =
      app.add_subcommand("demo", "Read a book into the service and answer questions from there");
  flags->model.AddTo(*command);
  command->add_option("--profile", flags->profile, "Default: FOLDER/profiles/greedy-24-int2.json")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command->add_option("--text", flags->text, "Text that the book is cut from")
      ->type_name("FILE")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--budget", flags->budget, "Tokens that a head attends to")
      ->check(CLI::Range(68, 1 << 20))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of the book and its codes")->capture_default_str();
  flags->service.AddTo(*command);
  command->callback([flags, &runner] {
    if (flags->profile.empty()) flags->profile = flags->model.DefaultProfile();
    if (flags->profile.empty()) {
      throw CLI::ValidationError("--profile", "the model has no default one");
    }
    runner.Choose([flags] { return RunDemo(*flags); });
  });
}

}  // namespace passband
