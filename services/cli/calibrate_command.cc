#include "services/cli/calibrate_command.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/clock.h"
#include "base/hash.h"
#include "base/version.h"
#include "llama/model.h"
#include "llama/tasks.h"
#include "profile/calibrate.h"
#include "services/cli/capture_attention.h"
#include "services/console/progress.h"
#include "services/console/table.h"

namespace passband {
namespace {

struct Settings {
  std::string model;
  std::string text;
  std::string out;
  std::string selector = "greedy";
  std::string slice = "int2";
  std::string pairing = "rope";
  std::string per = "kv-head";
  uint32_t chunks = 24;
  uint32_t top_k = 0;
  uint32_t context = 0;
  uint32_t positions = 40;
  uint32_t documents = 2;
  uint64_t seed = 1;
  bool json = false;
};

constexpr uint32_t kDefaultAgreementTopK = 256;
constexpr uint32_t kDefaultMassTopK = 192;
constexpr uint32_t kDefaultContext = 8192;

StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return Error(StatusCode::kNotFound, "cannot read the text '{}'", path);
  if (text.str().empty())
    return Error(StatusCode::kInvalidArgument, "the text '{}' is empty", path);
  return text.str();
}

StatusOr<CalibrationOptions> OptionsFrom(const Settings& settings) {
  CalibrationOptions options;
  const bool greedy = settings.selector == "greedy";
  options.selector = greedy ? CalibrationOptions::Selector::kCapturedMass
                            : CalibrationOptions::Selector::kContextualAgreement;
  options.chunks = settings.chunks;
  PASSBAND_ASSIGN_OR_RETURN(options.encoding, ParseEncoding(settings.slice));
  options.granularity =
      settings.per == "kv-head" ? Profile::Granularity::kKvHead : Profile::Granularity::kQueryHead;
  options.adjacent_pairing = settings.pairing == "adjacent";
  options.top_k = settings.top_k != 0 ? settings.top_k
                  : greedy            ? kDefaultMassTopK
                                      : kDefaultAgreementTopK;
  return options;
}

// Query positions, evenly over the scored part at the document's end.
std::vector<uint32_t> QueryPositions(const TaskDocument& document, uint32_t count) {
  std::vector<uint32_t> positions;
  const uint32_t span = document.scored_positions();
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t position =
        document.first_scored() +
        static_cast<uint32_t>((uint64_t{2} * i + 1) * span / (uint64_t{2} * count));
    if (positions.empty() || positions.back() != position) positions.push_back(position);
  }
  return positions;
}

// Odd documents are plain text, even ones quote it: recall forces the model to
// look far back.
StatusOr<std::vector<DocumentCapture>> CaptureDocuments(const LlamaModel& model,
                                                        const std::string& text,
                                                        const Settings& settings,
                                                        uint32_t context) {
  PASSBAND_ASSIGN_OR_RETURN(const TaskMaker maker, TaskMaker::Create(text));
  Progress progress("capture", settings.documents, "documents");
  std::vector<DocumentCapture> captures;
  for (uint32_t i = 0; i < settings.documents; ++i) {
    PASSBAND_ASSIGN_OR_RETURN(const TaskDocument document,
                              i % 2 == 0 ? maker.Books(context, settings.seed, i)
                                         : maker.Recall(context, settings.seed, i));
    CaptureAttention capture(model.config(), model.pool(),
                             QueryPositions(document, settings.positions));
    const BatchItem item{.token_ids = {document.tokens.data(), document.context()},
                         .first_position = 0,
                         .handle = i,
                         .logits = 0};
    PASSBAND_RETURN_IF_ERROR(model.Forward({&item, 1}, capture).status());
    captures.push_back(capture.Take());
    progress.Advance(1);
  }
  return captures;
}

Profile Describe(const LlamaModel& model, const Settings& settings,
                 const CalibrationOptions& options, uint32_t context,
                 const std::string& text_digest) {
  Profile profile;
  profile.model_name = model.name();
  profile.fingerprint = model.fingerprint();
  profile.shape = model.config().head_shape();
  profile.layers = model.config().layers;
  profile.query_heads = model.config().q_heads;
  profile.kv_heads = model.config().kv_heads;
  profile.granularity = options.granularity;
  profile.encoding = options.encoding;
  profile.provenance = {.selector = settings.selector,
                        .pairing = settings.pairing,
                        .text_digest = text_digest,
                        .tool_version = kVersion,
                        .documents = settings.documents,
                        .context_tokens = context,
                        .positions = settings.positions,
                        .top_k = options.top_k,
                        .seed = settings.seed};
  return profile;
}

struct LayerQuality {
  double covered = 0;
  double best = 0;
};

std::vector<LayerQuality> ByLayer(const Calibration& calibration, uint32_t heads_per_layer) {
  std::vector<LayerQuality> layers(calibration.quality.size() / heads_per_layer);
  for (size_t i = 0; i < calibration.quality.size(); ++i) {
    layers[i / heads_per_layer].covered += calibration.quality[i].covered_mass / heads_per_layer;
    layers[i / heads_per_layer].best += calibration.quality[i].best_mass / heads_per_layer;
  }
  return layers;
}

void PrintTable(const Profile& profile, const std::vector<LayerQuality>& layers,
                const std::string& path, double seconds) {
  const Terminal terminal = Terminal::Of(stdout);
  Table table({{"layer", Align::kRight},
               {"mass by chosen chunks", Align::kRight},
               {"by exact scores", Align::kRight},
               {"share", Align::kRight}});
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    table.AddRow({std::to_string(layer), fmt::format("{:.4f}", layers[layer].covered),
                  fmt::format("{:.4f}", layers[layer].best),
                  fmt::format("{:.1f} %",
                              100 * layers[layer].covered / std::max(layers[layer].best, 1e-12))});
  }
  std::fputs(table.Text(terminal).c_str(), stdout);
  fmt::print("\n{} {} chunks, {} slices of {} bytes a token and head, in {:.1f} s\n{}  {}\n",
             profile.chunks(), profile.provenance.selector, EncodingName(profile.encoding),
             profile.slice_bytes(), seconds, terminal.Bold("profile"), path);
}

void PrintJson(const Profile& profile, const std::vector<LayerQuality>& layers,
               const std::string& path, double seconds) {
  nlohmann::json rows = nlohmann::json::array();
  for (const LayerQuality& layer : layers) {
    rows.push_back({{"covered_mass", layer.covered}, {"best_mass", layer.best}});
  }
  const nlohmann::json out = {{"schema", "passband.calibrate/v1"},
                              {"profile", path},
                              {"digest", profile.digest()},
                              {"selector", profile.provenance.selector},
                              {"encoding", EncodingName(profile.encoding)},
                              {"chunks", profile.chunks()},
                              {"slice_bytes", profile.slice_bytes()},
                              {"seconds", seconds},
                              {"layers", rows}};
  fmt::print("{}\n", out.dump());
}

Status RunCalibrate(const Settings& settings) {
  const RealClock clock;
  const Time started = clock.Now();
  PASSBAND_ASSIGN_OR_RETURN(const CalibrationOptions options, OptionsFrom(settings));
  PASSBAND_ASSIGN_OR_RETURN(const std::string text, ReadText(settings.text));
  PASSBAND_ASSIGN_OR_RETURN(const auto model, LlamaModel::Load(settings.model));
  const LlamaConfig& config = model->config();
  const uint32_t context =
      settings.context != 0 ? settings.context : std::min(kDefaultContext, config.max_positions);
  PASSBAND_ASSIGN_OR_RETURN(const auto captures, CaptureDocuments(*model, text, settings, context));
  Profile profile = Describe(*model, settings, options, context,
                             ToHex(HashSha256(std::as_bytes(std::span(text)))));
  Progress progress("choose", profile.layers * profile.heads_per_layer(), "heads");
  uint32_t shown = 0;
  PASSBAND_ASSIGN_OR_RETURN(Calibration calibration,
                            Calibrate(profile.shape, config.layers, config.q_heads, config.kv_heads,
                                      captures, options, [&](uint32_t done, uint32_t) {
                                        progress.Advance(done - shown);
                                        shown = done;
                                      }));
  progress.Finish();
  profile.specs = calibration.specs;
  PASSBAND_RETURN_IF_ERROR(profile.Finish());
  PASSBAND_RETURN_IF_ERROR(profile.Save(settings.out));
  const auto layers = ByLayer(calibration, profile.heads_per_layer());
  const double seconds = Seconds(clock.Now() - started);
  (settings.json ? PrintJson : PrintTable)(profile, layers, settings.out, seconds);
  return OkStatus();
}

}  // namespace

void AddCalibrateCommand(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand(
      "calibrate", "Choose a model's dominant frequency chunks from a text and write a profile");
  auto settings = std::make_shared<Settings>();
  command
      ->add_option("--model", settings->model,
                   "Folder of a Llama-architecture safetensors checkpoint")
      ->type_name("FOLDER")
      ->required();
  command->add_option("--text", settings->text, "Plain text to calibrate on, 100 KB or more")
      ->type_name("FILE")
      ->required();
  command->add_option("--out", settings->out, "Where the profile is written")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--selector", settings->selector,
                   "greedy: chunks chosen together by the attention mass they capture; "
                   "ca: the paper's contextual agreement, each chunk on its own")
      ->check(CLI::IsMember({"greedy", "ca"}))
      ->capture_default_str();
  command->add_option("--chunks", settings->chunks, "Chunks kept of every head")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--slice", settings->slice,
                   "How a slice stores each component of a chosen chunk")
      ->check(CLI::IsMember({"bf16", "fp8", "int8", "int4", "int2"}))
      ->capture_default_str();
  command
      ->add_option("--per", settings->per,
                   "One set for each kv-head (what workers use) or query-head (the paper, for "
                   "evaluation)")
      ->check(CLI::IsMember({"kv-head", "query-head"}))
      ->capture_default_str();
  command
      ->add_option("--pairing", settings->pairing,
                   "rope: the dimensions RoPE rotates together; adjacent: (2i, 2i+1), as the "
                   "paper's public code takes them")
      ->check(CLI::IsMember({"rope", "adjacent"}))
      ->capture_default_str();
  command->add_option(
      "--top-k", settings->top_k,
      "Tokens that chosen chunks should find: with ca the size of the sets compared "
      "(default 256), with greedy beside sinks and recent tokens (default 192)");
  command->add_option("--context", settings->context,
                      "Tokens of a document (default 8192, or the model's limit)");
  command->add_option("--positions", settings->positions, "Queries looked at in every document")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--documents", settings->documents, "Documents cut from the text")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", settings->seed, "Which places of the text are used")
      ->capture_default_str();
  command->add_flag("--json", settings->json, "Print the outcome as JSON");
  command->footer(
      "Examples:\n"
      "  passband calibrate --model models/books-13m --text novel.txt --out new.json\n"
      "  passband calibrate --model models/books-13m --text novel.txt --out ca.json \\\n"
      "      --selector ca --chunks 16 --slice bf16\n\n"
      "A frequency chunk is a pair of key dimensions that RoPE rotates together.\n"
      "Workers keep the chosen chunks of every key, its slice, and predict from slices\n"
      "which tokens a query attends to. A profile fits the checkpoint it was\n"
      "made for, and no other.");
  command->callback(
      [settings, &runner] { runner.Choose([settings] { return RunCalibrate(*settings); }); });
}

}  // namespace passband
