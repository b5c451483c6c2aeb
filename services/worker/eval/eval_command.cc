#include "services/worker/eval/eval_command.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/clock.h"
#include "services/console/progress.h"
#include "services/worker/eval/device_evaluation.h"
#include "services/worker/eval/evaluation.h"
#include "services/worker/eval/report.h"
#include "services/worker/flags.h"
#include "services/worker/model_info.h"

namespace passband {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  passband-worker eval --model models/books-13m --text models/books-13m/held-out.txt\n"
    "  passband-worker eval --model models/books-13m --text novel.txt --task books \\\n"
    "      --method full,fasa,stream --budget 128,256,512 --documents 8 --json\n\n"
    "Tasks: needle asks for facts hidden in a book, recall for a passage quoted from far\n"
    "back, books for the next bytes of prose. The last 640 tokens of every document are\n"
    "decoded with each method:\n"
    "  full    attends to every token\n"
    "  oracle  to the tokens of truly highest attention (what any choice can reach)\n"
    "  fasa    to those that slices choose\n"
    "  stream  to the first and the newest tokens only\n"
    "  quest   to pages of 16 tokens, chosen by bounds on their keys";

struct EvalFlags {
  ModelFlags model;
  ServiceFlags service;
  SelectFlags select;
  std::string tasks = "needle";
  std::string methods = "full,fasa";
  std::vector<std::string> profiles;
  std::string budgets = "256";
  std::string text;
  uint32_t context = 8192;
  uint32_t documents = 4;
  uint32_t keys = 16;
  uint64_t seed = 1;
  int lanes = 2;
  std::string device_fasa = "fasa-m";
  bool no_probe = false;
  bool json = false;
};

// Turns an error of the flags into CLI11's, which ends with exit code 2.
template <typename T>
T OrUsage(const char* flag, StatusOr<T> value) {
  if (!value.ok()) throw CLI::ValidationError(flag, Message(value.status()));
  return *std::move(value);
}

uint32_t ParseBudget(const std::string& text) {
  uint32_t budget = 0;
  if (!CLI::detail::lexical_cast(text, budget)) {
    throw CLI::ValidationError("--budget", "\"" + text + "\" is not a number of tokens");
  }
  return budget;
}

// Everything but the profiles, which need the model.
EvalSettings ReadSettings(const EvalFlags& flags) {
  EvalSettings settings;
  for (const std::string& name : SplitList(flags.tasks)) {
    settings.tasks.push_back(OrUsage("--task", ParseTask(name)));
  }
  for (const std::string& name : SplitList(flags.methods)) {
    settings.methods.push_back(OrUsage("--method", ParseMethod(name)));
  }
  settings.budgets.clear();
  for (const std::string& text : SplitList(flags.budgets)) {
    settings.budgets.push_back(ParseBudget(text));
  }
  settings.sinks = flags.select.sinks;
  settings.recent = flags.select.recent;
  settings.hot_rows = flags.select.hot_rows;
  settings.context = flags.context;
  settings.documents = flags.documents;
  settings.keys = flags.keys;
  settings.seed = flags.seed;
  settings.probe = !flags.no_probe;
  if (settings.tasks.empty()) throw CLI::ValidationError("--task", "names no task");
  if (settings.methods.empty()) throw CLI::ValidationError("--method", "names no method");
  if (settings.budgets.empty()) throw CLI::ValidationError("--budget", "names no budget");
  return settings;
}

// Checks what can be checked before anything is loaded.
void CheckUsage(EvalFlags& flags, EvalSettings settings) {
  const bool fasa = std::find(settings.methods.begin(), settings.methods.end(), Method::kFasa) !=
                    settings.methods.end();
  if (fasa && flags.profiles.empty()) {
    const std::string profile = flags.model.DefaultProfile();
    if (!profile.empty()) flags.profiles.push_back(profile);
  }
  settings.profiles.resize(flags.profiles.size());
  OrUsage("eval", MakePlan(settings));
}

Status RunEval(const EvalFlags& flags, EvalSettings settings) {
  const Time start = RealClock().Now();
  PASSBAND_ASSIGN_OR_RETURN(const TaskMaker maker, TaskMaker::FromFile(flags.text));
  PASSBAND_ASSIGN_OR_RETURN(const Workbench bench, OpenWorkbench(flags.model, flags.service));
  const LlamaModel& model = *bench.model;
  if (settings.context > model.config().max_positions) {
    return Error(StatusCode::kInvalidArgument, "context {} is longer than the model's {}",
                 settings.context, model.config().max_positions);
  }
  for (const std::string& path : flags.profiles) {
    PASSBAND_ASSIGN_OR_RETURN(auto profile, LoadProfileFor(path, model));
    settings.profiles.push_back({std::filesystem::path(path).stem().string(), profile});
  }
  PASSBAND_ASSIGN_OR_RETURN(auto plan, MakePlan(settings));
  EvalRunner runner(model, *bench.service, maker, settings, plan);
  Progress progress("eval", runner.total_steps(), "steps");
  const auto on_steps = [&](uint64_t steps) { progress.Advance(steps); };
  double prefill_seconds = 0;
  auto measured = flags.model.on_gpu()
                      ? EvaluateOnDevice(model, *bench.service, maker, settings, plan,
                                         flags.device_fasa, on_steps, prefill_seconds)
                      : runner.Run(flags.lanes, on_steps);
  PASSBAND_ASSIGN_OR_RETURN(const auto results, std::move(measured));
  progress.Finish();
  const EvalSetup setup{model.name(),
                        model.fingerprint().text(),
                        bench.service->transport(),
                        flags.text,
                        static_cast<uint32_t>(model.config().head_shape().row_bytes()),
                        flags.model.on_gpu() ? prefill_seconds : runner.prefill_seconds(),
                        Seconds(RealClock().Now() - start)};
  const std::string text = flags.json ? EvalJson(setup, settings, results)
                                      : EvalTable(setup, settings, results, Terminal::Of(stdout));
  std::fputs(text.c_str(), stdout);
  return OkStatus();
}

}  // namespace

void AddEvalCommand(CLI::App& app, CommandRunner& runner) {
  const auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app.add_subcommand(
      "eval", "Measure selection methods: score, bits per byte, attention mass, bytes");
  flags->model.AddTo(*command);
  flags->model.AddDeviceTo(*command);
  command
      ->add_option(
          "--device-fasa", flags->device_fasa,
          "What fasa is with --device cuda: fasa-m: rows in the service; fasa-c: on the GPU")
      ->check(CLI::IsMember({"fasa-m", "fasa-c"}))
      ->capture_default_str();
  command->add_option("--task", flags->tasks, "needle, recall, books: one, or a list with commas")
      ->type_name("LIST")
      ->capture_default_str();
  command
      ->add_option("--method", flags->methods,
                   "full, oracle, fasa, stream, quest: one, or a list with commas")
      ->type_name("LIST")
      ->capture_default_str();
  command->add_option("--profile", flags->profiles, "Profile for fasa; may be given several times")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--budget", flags->budgets,
                   "Tokens that a head attends to, sinks and recent ones included; one, or a "
                   "list with commas")
      ->type_name("LIST")
      ->capture_default_str();
  flags->select.AddTo(*command);
  command->add_option("--context", flags->context, "Tokens of a document")->capture_default_str();
  command
      ->add_option("--text", flags->text,
                   "Text that documents are cut from; not one the profile was made from")
      ->type_name("FILE")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--documents", flags->documents, "Documents of each task")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--keys", flags->keys, "Facts hidden in a needle document")
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Which places of the text are used")
      ->capture_default_str();
  command->add_option("--lanes", flags->lanes, "Documents and methods at work at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_flag("--no-probe", flags->no_probe,
                    "Do not measure attention mass and recall of the true top tokens (faster)");
  command->add_flag("--json", flags->json, "Print one JSON object instead of a table");
  flags->service.AddTo(*command);
  command->footer(kExamples);
  command->callback([flags, &runner] {
    const EvalSettings settings = ReadSettings(*flags);
    CheckUsage(*flags, settings);
    runner.Choose([flags, settings] { return RunEval(*flags, settings); });
  });
}

}  // namespace passband
