#include "services/worker/eval/device_evaluation.h"

#include "base/clock.h"
#include "services/worker/device_host.h"

namespace passband {
namespace {

constexpr uint64_t kHandle = 1;

// What all walks of an evaluation have in common.
struct Setting {
  const LlamaModel& model;
  KvService& service;
  const EvalSettings& settings;
  const std::string& fasa;
  const std::function<void(uint64_t steps)>& on_steps;
  double& prefill_seconds;
};

double SecondsSince(Time start) { return Seconds(RealClock().Now() - start); }

void Count(const TaskDocument& document, const Logits& logits, EvalResult& result) {
  result.score.Add(Score(document, logits));
  TaskScore bits;
  for (uint32_t i = 0; i < document.scored_positions(); ++i) {
    bits.sum += SurpriseBits(logits.row(i), document.tokens[document.first_scored() + i + 1]);
    bits.count += 1;
  }
  result.bits.Add(bits);
  result.tokens += document.scored_positions();
}

Status Walk(const Setting& setting, const TaskDocument& document, EvalResult& result) {
  const Combination& combination = result.combination;
  const std::string method = combination.method == Method::kFull ? "full" : setting.fasa;
  PASSBAND_ASSIGN_OR_RETURN(
      const auto host,
      MakeDeviceHost(setting.model, &setting.service, combination.profile.profile,
                     {method, combination.select, setting.settings.hot_rows, nullptr}));
  const uint32_t prefix = document.first_scored();
  const uint32_t scored = document.scored_positions();
  const std::span<const uint32_t> tokens(document.tokens);
  const Time start = RealClock().Now();
  PASSBAND_RETURN_IF_ERROR(
      host->Open(kHandle, tokens.first(prefix), tokens.size(), /*share_prefix=*/false).status());
  if (prefix > 0) {
    const BatchItem item{tokens.first(prefix), 0, kHandle, 0};
    PASSBAND_RETURN_IF_ERROR(setting.model.Forward(std::span(&item, 1), *host).status());
  }
  PASSBAND_RETURN_IF_ERROR(host->Flush(kHandle));
  setting.prefill_seconds += SecondsSince(start);
  host->ResetStats();
  const Time walk = RealClock().Now();
  const BatchItem item{tokens.subspan(prefix, scored), prefix, kHandle, scored};
  PASSBAND_ASSIGN_OR_RETURN(const Logits logits, setting.model.Forward(std::span(&item, 1), *host));
  result.seconds += SecondsSince(walk);
  Count(document, logits, result);
  const EngineStats stats = host->stats();
  result.engine.steps += stats.steps;
  result.engine.selected_rows += stats.selected_rows;
  result.engine.hot_rows += stats.hot_rows;
  result.engine.tail_rows += stats.tail_rows;
  result.engine.fetched_rows += stats.fetched_rows;
  result.engine.fetched_bytes += stats.fetched_bytes;
  result.engine.full_attention_bytes += stats.full_attention_bytes;
  setting.on_steps(uint64_t{scored} * setting.model.config().layers);
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<EvalResult>> EvaluateOnDevice(
    const LlamaModel& model, KvService& service, const TaskMaker& maker,
    const EvalSettings& settings, const std::vector<Combination>& plan, const std::string& fasa,
    const std::function<void(uint64_t steps)>& on_steps, double& prefill_seconds) {
  const Setting setting{model, service, settings, fasa, on_steps, prefill_seconds};
  std::vector<EvalResult> results;
  for (const Task task : settings.tasks) {
    for (const Combination& combination : plan) {
      if (combination.per_query_head() ||
          (combination.method != Method::kFull && combination.method != Method::kFasa)) {
        return Error(StatusCode::kUnimplemented, "{} is evaluated with --device cpu",
                     combination.Label());
      }
      EvalResult result;
      result.task = task;
      result.combination = combination;
      for (uint32_t i = 0; i < settings.documents; ++i) {
        PASSBAND_ASSIGN_OR_RETURN(
            const TaskDocument document,
            maker.Make(task, settings.context, settings.keys, settings.seed, i));
        PASSBAND_RETURN_IF_ERROR(Walk(setting, document, result));
      }
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace passband
