#include "services/worker/eval/evaluation.h"

#include <algorithm>

#include "base/clock.h"
#include "base/thread.h"
#include "services/worker/engine_attention.h"
#include "services/worker/eval/schedule.h"
#include "services/worker/eval/scored_walk.h"
#include "services/worker/model_info.h"

namespace passband {
namespace {

constexpr uint64_t kHandle = 1;

double SecondsSince(Time start) { return Seconds(RealClock().Now() - start); }

std::unique_ptr<EvalSelector> MakeSelector(const Combination& combination) {
  switch (combination.method) {
    case Method::kFull:
      return nullptr;
    case Method::kOracle:
      return std::make_unique<OracleSelector>(combination.select);
    case Method::kStream:
      return std::make_unique<StreamSelector>(combination.select);
    case Method::kQuest:
      return std::make_unique<QuestSelector>(combination.select);
    case Method::kFasa:
      break;
  }
  if (combination.per_query_head()) {
    return std::make_unique<HeadSelector>(combination.profile.profile, combination.select);
  }
  return std::make_unique<FasaSelector>(combination.select);
}

ScoredWalk::Kind WalkKind(const Combination& combination) {
  if (combination.method == Method::kFull) return ScoredWalk::Kind::kFull;
  const bool own = combination.method == Method::kFasa && !combination.per_query_head();
  return own ? ScoredWalk::Kind::kOwn : ScoredWalk::Kind::kSelector;
}

TaskScore BitsOf(const TaskDocument& document, const Logits& logits) {
  TaskScore bits;
  for (uint32_t i = 0; i < document.scored_positions(); ++i) {
    bits.sum += SurpriseBits(logits.row(i), document.tokens[document.first_scored() + i + 1]);
    bits.count += 1;
  }
  return bits;
}

}  // namespace

double EvalResult::hit_rate() const {
  return engine.selected_rows == 0
             ? 0
             : static_cast<double>(engine.hot_rows) / static_cast<double>(engine.selected_rows);
}

double EvalResult::share_of_full() const {
  return engine.full_attention_bytes == 0 ? 0
                                          : static_cast<double>(engine.fetched_bytes) /
                                                static_cast<double>(engine.full_attention_bytes);
}

struct EvalRunner::Document {
  explicit Document(const ModelInfo& model) : keys(model) {}

  TaskDocument task;
  PromptKeys keys;
  std::unique_ptr<WorkerSequence> sequence;  // none when nothing precedes the scored positions
};

EvalRunner::EvalRunner(const LlamaModel& model, KvService& service, const TaskMaker& maker,
                       EvalSettings settings, std::vector<Combination> plan)
    : model_(model),
      service_(service),
      maker_(maker),
      settings_(std::move(settings)),
      plan_(std::move(plan)) {}

EvalRunner::~EvalRunner() = default;

double EvalRunner::prefill_seconds() {
  MutexLock lock(mutex_);
  return prefill_seconds_;
}

uint64_t EvalRunner::total_steps() const {
  const uint64_t scored = std::min(settings_.context, kScoredPositions);
  return settings_.tasks.size() * settings_.documents * model_.config().layers *
         (settings_.context - scored + scored * plan_.size());
}

Engine& EvalRunner::engine(size_t document, size_t method) const {
  return *engines_[document / settings_.documents * plan_.size() + method];
}

Status EvalRunner::CreateEngines() {
  const ModelInfo model = ModelInfoOf(model_);
  EngineOptions options;
  options.scale = model_.config().attention_scale();
  PASSBAND_ASSIGN_OR_RETURN(prefill_engine_, Engine::Create(&service_, model, nullptr, options));
  engines_.clear();
  for (size_t task = 0; task < settings_.tasks.size(); ++task) {
    for (const Combination& combination : plan_) {
      options.select = combination.select;
      options.hot_rows = settings_.hot_rows;
      const auto profile = combination.per_query_head() ? nullptr : combination.profile.profile;
      PASSBAND_ASSIGN_OR_RETURN(auto engine, Engine::Create(&service_, model, profile, options));
      engines_.push_back(std::move(engine));
    }
  }
  return OkStatus();
}

StatusOr<std::vector<EvalResult>> EvalRunner::Run(int threads,
                                                  std::function<void(uint64_t)> on_steps) {
  on_steps_ = std::move(on_steps);
  PASSBAND_RETURN_IF_ERROR(CreateEngines());
  const size_t documents = settings_.tasks.size() * settings_.documents;
  documents_.clear();
  documents_.resize(documents);
  measures_.assign(documents, std::vector<Measure>(plan_.size()));
  EvalSchedule schedule(documents, plan_.size(), static_cast<size_t>(threads));
  {
    std::vector<std::jthread> lanes;
    for (int i = 0; i < threads; ++i) {
      lanes.push_back(StartThread(fmt::format("eval-{}", i), [&](const std::stop_token&) {
        while (const auto job = schedule.Next()) {
          const Status status =
              job->method.has_value() ? Walk(job->document, *job->method) : Prefill(job->document);
          if (schedule.Done(*job, status)) documents_[job->document].reset();
        }
      }));
    }
  }
  documents_.clear();
  PASSBAND_RETURN_IF_ERROR(schedule.status());
  return Collect();
}

Status EvalRunner::Prefill(size_t index) {
  const ModelInfo& model = prefill_engine_->model();
  auto document = std::make_unique<Document>(model);
  const Task task = settings_.tasks[index / settings_.documents];
  PASSBAND_ASSIGN_OR_RETURN(document->task,
                            maker_.Make(task, settings_.context, settings_.keys, settings_.seed,
                                        index % settings_.documents));
  const uint32_t prefix = document->task.first_scored();
  if (prefix > 0) {
    const Time start = RealClock().Now();
    const std::span<const uint32_t> tokens(document->task.tokens.data(), prefix);
    PASSBAND_ASSIGN_OR_RETURN(document->sequence, prefill_engine_->Open(tokens));
    EngineAttention attention(*prefill_engine_, model_.pool(),
                              {.observer = &document->keys, .on_layer = on_steps_});
    attention.Add(kHandle, *document->sequence, prefix);
    const uint64_t attached = document->sequence->attached_tokens();
    on_steps_(attached * model.layers);
    const BatchItem item{tokens.subspan(attached), attached, kHandle, 0};
    PASSBAND_RETURN_IF_ERROR(model_.Forward(std::span(&item, 1), attention).status());
    PASSBAND_RETURN_IF_ERROR(prefill_engine_->Flush(*document->sequence));
    MutexLock lock(mutex_);
    prefill_seconds_ += SecondsSince(start);
  }
  documents_[index] = std::move(document);
  return OkStatus();
}

StatusOr<std::unique_ptr<WorkerSequence>> EvalRunner::StartOn(const Document& document,
                                                              Engine& engine) {
  const uint32_t prefix = document.task.first_scored();
  // One token more than the prefix, so that all of it may be attached.
  const std::span<const uint32_t> tokens(document.task.tokens.data(), prefix + 1);
  PASSBAND_ASSIGN_OR_RETURN(auto sequence, engine.Open(tokens));
  const uint64_t attached = sequence->attached_tokens();
  if (attached == prefix) return sequence;
  // Whole blocks are attached; what follows them is copied.
  for (uint32_t layer = 0; layer < engine.model().layers; ++layer) {
    const auto pending = service_.StartRead({.sequence = document.sequence->id(),
                                             .layer = layer,
                                             .first_token = attached,
                                             .count = prefix - attached});
    PASSBAND_ASSIGN_OR_RETURN(const auto rows, pending->Wait());
    PASSBAND_RETURN_IF_ERROR(
        engine.AppendRows(*sequence, layer, attached, prefix - attached, rows.data()));
  }
  return sequence;
}

Status EvalRunner::Walk(size_t index, size_t method) {
  const Document& document = *documents_[index];
  const Combination& combination = plan_[method];
  Engine& walked = engine(index, method);
  const Time start = RealClock().Now();
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, StartOn(document, walked));
  const auto selector = MakeSelector(combination);
  Probe probe(combination.select);
  ScoredWalk walk(WalkKind(combination), {.engine = &walked,
                                          .sequence = sequence.get(),
                                          .prompt_keys = &document.keys,
                                          .selector = selector.get(),
                                          .probe = settings_.probe ? &probe : nullptr,
                                          .scale = model_.config().attention_scale(),
                                          .on_steps = on_steps_});
  const uint32_t scored = document.task.scored_positions();
  const std::span<const uint32_t> tokens(document.task.tokens);
  const BatchItem item{tokens.subspan(document.task.first_scored(), scored),
                       document.task.first_scored(), kHandle, scored};
  PASSBAND_ASSIGN_OR_RETURN(const Logits logits, model_.Forward(std::span(&item, 1), walk));
  measures_[index][method] = {Score(document.task, logits), BitsOf(document.task, logits),
                              probe.sums(), SecondsSince(start)};
  return OkStatus();
}

std::vector<EvalResult> EvalRunner::Collect() const {
  std::vector<EvalResult> results;
  for (size_t task = 0; task < settings_.tasks.size(); ++task) {
    for (size_t method = 0; method < plan_.size(); ++method) {
      EvalResult result;
      result.task = settings_.tasks[task];
      result.combination = plan_[method];
      for (uint32_t i = 0; i < settings_.documents; ++i) {
        const Measure& measure = measures_[task * settings_.documents + i][method];
        result.score.Add(measure.score);
        result.bits.Add(measure.bits);
        result.probe.Add(measure.probe);
        result.seconds += measure.seconds;
      }
      result.tokens = static_cast<uint64_t>(result.bits.count);
      result.engine = engines_[task * plan_.size() + method]->stats();
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace passband
