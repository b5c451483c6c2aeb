#include "services/worker/generate_command.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "llama/split_mix.h"
#include "llama/tokenizer.h"
#include "services/console/progress.h"
#include "services/console/table.h"
#include "services/worker/device_host.h"
#include "services/worker/flags.h"
#include "services/worker/generation.h"
#include "services/worker/memory_report.h"
#include "services/worker/metrics_endpoint.h"
#include "services/worker/model_info.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] =
    "Examples:\n"
    "  passband-worker generate --model models/books-13m --prompt 'It was the '\n"
    "  passband-worker generate --model models/books-13m --server 127.0.0.1:50061 \\\n"
    "      --prompt-file book.txt --max-tokens 200 --keep-sequence\n"
    "  passband-worker generate --model models/books-13m --method full --prompt 'A '\n\n"
    "A row is the key and value of one token and head. Hot rows are those a worker kept\n"
    "from earlier steps; only the others are fetched.";

struct GenerateFlags {
  ModelFlags model;
  ServiceFlags service;
  SelectFlags select;
  std::string profile;
  std::string method = "fasa";
  uint32_t budget = 256;
  std::vector<std::string> prompts;
  std::vector<std::string> prompt_files;
  uint32_t random_prompt = 0;
  std::string suffix = "exact";
  Generation::Settings settings;
  bool keep_sequence = false;
  bool no_prefix = false;
  std::string metrics;
  bool json = false;
};

StatusOr<std::vector<uint32_t>> Tokenize(const std::string& text, const LlamaModel& model) {
  if (model.config().vocab_size == kByteVocabulary) return EncodeBytes(text);
  return ParseTokenIds(text, model.config().vocab_size);
}

StatusOr<std::vector<std::vector<uint32_t>>> ReadPrompts(const GenerateFlags& flags,
                                                         const LlamaModel& model) {
  std::vector<std::vector<uint32_t>> prompts;
  for (const std::string& text : flags.prompts) {
    PASSBAND_ASSIGN_OR_RETURN(auto tokens, Tokenize(text, model));
    if (tokens.empty()) return Error(StatusCode::kInvalidArgument, "--prompt is empty");
    prompts.push_back(std::move(tokens));
  }
  for (const std::string& path : flags.prompt_files) {
    PASSBAND_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
    auto tokens = Tokenize(text, model);
    if (!tokens.ok()) return Annotate(tokens.status(), path);
    if (tokens->empty()) return Error(StatusCode::kInvalidArgument, "{}: no text", path);
    prompts.push_back(*std::move(tokens));
  }
  if (flags.random_prompt > 0) {
    SplitMix random(flags.settings.sampling.seed);
    std::vector<uint32_t> tokens(flags.random_prompt);
    for (uint32_t& token : tokens) token = random.Below(model.config().vocab_size);
    prompts.push_back(std::move(tokens));
  }
  return prompts;
}

void PrintSummary(const Generation& generation, const MemoryReport& report) {
  const Terminal terminal = Terminal::Of(stdout);
  const Generation::Times& times = generation.times();
  uint64_t prompt = 0, attached = 0;
  for (const auto& stream : generation.streams()) {
    prompt += stream.prompt.size();
    attached += stream.attached;
  }
  Table table({{""}, {"", Align::kRight}, {""}});
  const auto row = [&](const char* name, const std::string& value, const std::string& remark) {
    table.AddRow({terminal.Dim(name), terminal.Bold(value), terminal.Dim(remark)});
  };
  row("prompt", FormatCount(prompt),
      fmt::format("tokens, {} of them attached from the service", FormatCount(attached)));
  row("prefill", FormatSeconds(times.prefill_seconds),
      fmt::format("for {} tokens", FormatCount(times.prefilled_tokens)));
  row("decode", fmt::format("{:.1f}", times.decode_rate()),
      fmt::format("tokens/s over {} tokens", FormatCount(times.decoded_tokens)));
  row("full keys and values", FormatBytes(static_cast<double>(report.full_kv_bytes)),
      "over " + generation.host().transport());
  row("held: slices", FormatBytes(static_cast<double>(report.slice_bytes)), "");
  row("held: hot rows", FormatBytes(static_cast<double>(report.hot_row_bytes)), "");
  row("held: newest tokens", FormatBytes(static_cast<double>(report.tail_bytes)), "");
  if (report.device_row_bytes > 0) {
    row("held: rows on the GPU", FormatBytes(static_cast<double>(report.device_row_bytes)), "");
  }
  row("held at most in prefill", FormatBytes(static_cast<double>(report.peak_layer_bytes)),
      "one layer's rows");
  row("fetched a token", FormatBytes(report.fetched_per_token), "");
  row("  without hot rows", FormatBytes(report.unaided_per_token),
      fmt::format("{:.1f}% saved", 100 * report.saved_by_hot_rows()));
  row("  under full attention", FormatBytes(report.full_per_token),
      fmt::format("{:.1f}% saved", 100 * report.saved_against_full()));
  std::fputs(table.Text(terminal).c_str(), stdout);
}

Json StreamJson(const Generation::Stream& stream) {
  return {{"prompt_tokens", stream.prompt.size()},
          {"attached_tokens", stream.attached},
          {"text", stream.text},
          {"tokens", stream.tokens},
          {"finish_reason", FinishReasonName(stream.finish)},
          {"sequence", stream.sequence.value()}};
}

void PrintJson(const GenerateFlags& flags, const Generation& generation, const MemoryReport& report,
               const Workbench& bench) {
  const Generation::Times& times = generation.times();
  Json json;
  json["schema"] = "passband.generate/v1";
  json["model"] = bench.model->name();
  json["fingerprint"] = bench.model->fingerprint().text();
  json["method"] = flags.method;
  json["profile"] = flags.profile;
  json["budget"] = flags.budget;
  json["device"] = flags.model.device;
  json["transport"] = generation.host().transport();
  json["kept"] = flags.keep_sequence;
  json["outputs"] = Json::array();
  for (const auto& stream : generation.streams()) json["outputs"].push_back(StreamJson(stream));
  json["prefill_seconds"] = times.prefill_seconds;
  json["prefilled_tokens"] = times.prefilled_tokens;
  json["decode_seconds"] = times.decode_seconds;
  json["decoded_tokens"] = times.decoded_tokens;
  json["decode_tokens_per_second"] = times.decode_rate();
  json["full_kv_bytes"] = report.full_kv_bytes;
  json["slice_bytes"] = report.slice_bytes;
  json["hot_row_bytes"] = report.hot_row_bytes;
  json["tail_bytes"] = report.tail_bytes;
  json["device_row_bytes"] = report.device_row_bytes;
  json["peak_prefill_layer_bytes"] = report.peak_layer_bytes;
  json["fetched_bytes_per_token"] = report.fetched_per_token;
  json["fetched_bytes_per_token_without_hot_rows"] = report.unaided_per_token;
  json["full_attention_bytes_per_token"] = report.full_per_token;
  json["saved_by_hot_rows"] = report.saved_by_hot_rows();
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

// A host, and what it stands on.
struct Host {
  std::unique_ptr<Engine> engine;  // none on a GPU
  std::unique_ptr<SequenceHost> host;
};

StatusOr<Host> MakeHost(const GenerateFlags& flags, const Workbench& bench,
                        std::function<void(uint64_t)> on_layer) {
  const kernels::SelectOptions select{flags.budget, flags.select.sinks, flags.select.recent};
  std::shared_ptr<const Profile> profile;
  if (!flags.settings.full && flags.profile.empty()) {
    PASSBAND_ASSIGN_OR_RETURN(profile, RandomProfile(*bench.model));
  } else if (!flags.settings.full) {
    PASSBAND_ASSIGN_OR_RETURN(profile, LoadProfileFor(flags.profile, *bench.model));
  }
  Host out;
  if (flags.model.on_gpu()) {
    PASSBAND_ASSIGN_OR_RETURN(
        out.host, MakeDeviceHost(*bench.model, bench.service.get(), profile,
                                 {flags.method, select, flags.select.hot_rows, on_layer}));
    return out;
  }
  EngineOptions options;
  options.select = select;
  options.hot_rows = flags.select.hot_rows;
  options.scale = bench.model->config().attention_scale();
  PASSBAND_ASSIGN_OR_RETURN(
      out.engine, Engine::Create(bench.service.get(), ModelInfoOf(*bench.model), profile, options));
  out.host = std::make_unique<EngineHost>(
      *out.engine, bench.model->pool(),
      EngineAttention::Options{.full = flags.settings.full,
                               .sparse_suffix = flags.settings.sparse_suffix,
                               .observer = nullptr,
                               .on_layer = std::move(on_layer)});
  return out;
}

// One prompt streams as it comes; of several, each is shown when all are done.
void PrintTexts(const Generation& generation) {
  const Terminal terminal = Terminal::Of(stdout);
  for (size_t i = 0; i < generation.streams().size(); ++i) {
    fmt::print("{}\n{}\n\n", terminal.Bold(fmt::format("prompt {}", i + 1)),
               generation.streams()[i].text);
  }
}

StatusOr<std::unique_ptr<MetricsEndpoint>> ServeMetrics(const GenerateFlags& flags,
                                                        const Workbench& bench) {
  if (flags.metrics.empty()) return std::unique_ptr<MetricsEndpoint>();
  return MetricsEndpoint::Start(flags.metrics, {.model = bench.model->name(),
                                                .method = flags.method,
                                                .transport = bench.service->transport()});
}

void Publish(const Generation& generation, MetricsEndpoint& metrics) {
  metrics.Publish({.steps = generation.host().stats(),
                   .memory = generation.Report(),
                   .sequences = generation.streams().size(),
                   .decoded_tokens = generation.times().decoded_tokens,
                   .decode_seconds = generation.times().decode_seconds});
}

Status RunGenerate(const GenerateFlags& flags) {
  PASSBAND_ASSIGN_OR_RETURN(const Workbench bench, OpenWorkbench(flags.model, flags.service));
  PASSBAND_ASSIGN_OR_RETURN(auto prompts, ReadPrompts(flags, *bench.model));
  PASSBAND_ASSIGN_OR_RETURN(const auto metrics, ServeMetrics(flags, bench));
  std::unique_ptr<Progress> progress;
  PASSBAND_ASSIGN_OR_RETURN(
      const Host host, MakeHost(flags, bench, [&](uint64_t steps) { progress->Advance(steps); }));
  Generation generation(*bench.model, *host.host, flags.settings);
  const bool streamed = !flags.json && prompts.size() == 1;
  const bool many = !flags.json && prompts.size() > 1;
  for (auto& prompt : prompts) PASSBAND_RETURN_IF_ERROR(generation.Add(std::move(prompt)));
  progress = std::make_unique<Progress>("prefill", generation.prefill_steps(), "steps");
  const auto on_text = [&](size_t, const std::string& text) {
    if (!streamed) return;
    progress->Finish();
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  PASSBAND_RETURN_IF_ERROR(generation.Prefill(on_text));
  progress->Finish();
  host.host->ResetStats();
  while (!generation.finished()) {
    PASSBAND_RETURN_IF_ERROR(generation.Step(on_text));
    if (metrics != nullptr) Publish(generation, *metrics);
  }
  const MemoryReport report = generation.Report();
  if (flags.keep_sequence) PASSBAND_RETURN_IF_ERROR(generation.Keep());
  if (flags.json) {
    PrintJson(flags, generation, report, bench);
    return OkStatus();
  }
  if (many) PrintTexts(generation);
  if (streamed) std::fputs("\n\n", stdout);
  PrintSummary(generation, report);
  if (!flags.keep_sequence) return OkStatus();
  for (const auto& stream : generation.streams()) {
    fmt::print("kept as sequence {}\n", stream.sequence);
  }
  return OkStatus();
}

void CheckDevice(const GenerateFlags& flags) {
  if (flags.model.folder.empty() == flags.model.random_weights.empty()) {
    throw CLI::ValidationError("--model", "give --model or else --random-weights");
  }
  if (flags.model.on_gpu()) {
    if (flags.keep_sequence && (flags.method == "full" || flags.method == "fasa-c")) {
      throw CLI::ValidationError("--keep-sequence",
                                 "needs --method fasa-m: full and fasa-c keep "
                                 "their rows on the GPU alone");
    }
    if (flags.suffix == "sparse") {
      throw CLI::ValidationError("--suffix", "sparse needs --device cpu");
    }
    return;
  }
  if (!flags.model.random_weights.empty()) {
    throw CLI::ValidationError("--random-weights", "are made on a GPU: --device cuda");
  }
  if (flags.method == "fasa-c" || flags.method == "fasa-m") {
    throw CLI::ValidationError("--method", flags.method + " needs --device cuda");
  }
}

void CheckUsage(GenerateFlags& flags) {
  CheckDevice(flags);
  if (flags.prompts.empty() && flags.prompt_files.empty() && flags.random_prompt == 0) {
    throw CLI::ValidationError("generate", "give --prompt, --prompt-file or --random-prompt");
  }
  if (flags.keep_sequence && flags.service.server.empty()) {
    throw CLI::ValidationError("--keep-sequence",
                               "needs --server: the store of this process ends "
                               "with it");
  }
  flags.settings.full = flags.method == "full";
  flags.settings.sparse_suffix = flags.suffix == "sparse";
  flags.settings.share_prefix = !flags.no_prefix;
  if (uint64_t{flags.select.sinks} + flags.select.recent > flags.budget) {
    throw CLI::ValidationError(
        "--budget", fmt::format("{} is smaller than {} sinks + {} recent tokens", flags.budget,
                                flags.select.sinks, flags.select.recent));
  }
  if (flags.settings.full) {
    if (flags.settings.sparse_suffix) {
      throw CLI::ValidationError("--suffix", "sparse needs --method fasa");
    }
    return;
  }
  if (flags.profile.empty()) flags.profile = flags.model.DefaultProfile();
  if (flags.profile.empty() && flags.model.random_weights.empty()) {
    throw CLI::ValidationError(
        "--profile", "fasa needs one and the model has no default; `passband calibrate` makes it");
  }
}

void AddSampling(CLI::App& command, Generation::Settings& settings) {
  command.add_option("--max-tokens", settings.max_tokens, "Tokens to generate for each prompt")
      ->capture_default_str();
  command
      .add_option("--temperature", settings.sampling.temperature,
                  "Of the sampling; 0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command
      .add_option("--top-p", settings.sampling.top_p,
                  "Sample from the likeliest tokens of this joint probability")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  command
      .add_option("--top-k", settings.sampling.top_k,
                  "Sample from so many of the likeliest tokens; 0: from all")
      ->capture_default_str();
  command.add_option("--seed", settings.sampling.seed, "Of the sampling's random numbers")
      ->capture_default_str();
  command.add_option("--stop", settings.stops, "End before this text; may be given several times");
}

}  // namespace

void AddGenerateCommand(CLI::App& app, CommandRunner& runner) {
  const auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue prompts with keys and values in the service");
  flags->model.AddTo(*command);
  command->get_option("--model")->required(false);
  flags->model.AddDeviceTo(*command);
  command
      ->add_option("--random-weights", flags->model.random_weights,
                   "Instead of --model: a model of this shape with weights made up on the GPU, for "
                   "benchmarks: llama-3.1-8b")
      ->type_name("SHAPE");
  command
      ->add_option("--profile", flags->profile,
                   "Which parts of keys are held as slices, for fasa; passband calibrate makes "
                   "one. Default: FOLDER/profiles/greedy-24-int2.json")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--method", flags->method,
                   "fasa: attend to the tokens that slices choose; full: to every token. On a "
                   "GPU: fasa-m (also fasa): slices and hot rows there, the rows in the service; "
                   "fasa-c: slices and all rows there; full: all rows there")
      ->check(CLI::IsMember({"fasa", "full", "fasa-c", "fasa-m"}))
      ->capture_default_str();
  command->add_option("--prompt", flags->prompts, "Text to continue; several make a batch");
  command->add_option("--prompt-file", flags->prompt_files, "The same from a file")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  command->add_option("--random-prompt", flags->random_prompt,
                      "A prompt of so many random tokens, for benchmarks");
  command
      ->add_option("--budget", flags->budget,
                   "Tokens that a head attends to, sinks and recent ones included")
      ->capture_default_str();
  flags->select.AddTo(*command);
  command
      ->add_option("--suffix", flags->suffix,
                   "How the rest of a prompt is computed whose beginning was stored already: "
                   "exact, from the prefix's full rows; sparse, from chosen ones")
      ->check(CLI::IsMember({"exact", "sparse"}))
      ->capture_default_str();
  AddSampling(*command, flags->settings);
  command->add_flag("--keep-sequence", flags->keep_sequence,
                    "Leave the sequences in the server, sealed, for others to start from");
  command->add_flag("--no-prefix", flags->no_prefix,
                    "Compute the whole prompt, even if its beginning is stored already");
  command
      ->add_option("--metrics", flags->metrics,
                   "Serve Prometheus metrics of the decoding at http://HOST:PORT/metrics")
      ->type_name("HOST:PORT")
      ->check([](const std::string& text) {
        const auto address = MetricsEndpoint::Parse(text);
        return address.ok() ? std::string() : Message(address.status());
      });
  command->add_flag("--json", flags->json, "Print one JSON object instead of text");
  flags->service.AddTo(*command);
  command->footer(kExamples);
  command->callback([flags, &runner] {
    CheckUsage(*flags);
    runner.Choose([flags] { return RunGenerate(*flags); });
  });
}

}  // namespace passband
