#include "services/worker/eval/report.h"

#include <nlohmann/json.hpp>

#include "base/units.h"
#include "services/console/table.h"

namespace passband {
namespace {

using Json = nlohmann::ordered_json;

double PerToken(uint64_t total, const EvalResult& result) {
  return result.tokens == 0 ? 0 : static_cast<double>(total) / static_cast<double>(result.tokens);
}

std::vector<std::string> TableRow(const EvalResult& result) {
  const Combination& combination = result.combination;
  const bool full = combination.method == Method::kFull;
  const bool probed = result.probe.masses > 0;
  const auto share = [&](double value) { return probed ? fmt::format("{:.4f}", value) : "-"; };
  return {TaskName(result.task),
          MethodName(combination.method),
          combination.profile.name.empty() ? "-" : combination.profile.name,
          full ? "-" : fmt::format("{}", combination.select.budget),
          fmt::format("{:.3f}", result.score.mean()),
          fmt::format("{:.4f}", result.bits.mean()),
          full ? "1" : share(result.probe.mean_mass()),
          full ? "1" : share(result.probe.mean_recall()),
          FormatCount(static_cast<uint64_t>(
              PerToken(result.engine.selected_rows + result.engine.tail_rows, result) + 0.5)),
          FormatBytes(PerToken(result.engine.fetched_bytes, result)),
          fmt::format("{:.3f}%", 100 * result.share_of_full()),
          full ? "-" : fmt::format("{:.2f}%", 100 * result.hit_rate()),
          FormatSeconds(result.seconds)};
}

Json ResultJson(const EvalSetup& setup, const EvalResult& result) {
  const Combination& combination = result.combination;
  Json json;
  json["task"] = TaskName(result.task);
  json["method"] = MethodName(combination.method);
  if (combination.profile.profile != nullptr) {
    json["profile"] = combination.profile.name;
    json["profile_digest"] = combination.profile.profile->digest();
    json["granularity"] = combination.per_query_head() ? "query_head" : "kv_head";
    json["slice_bytes"] = combination.profile.profile->slice_bytes();
  }
  if (combination.method != Method::kFull) {
    json["budget"] = combination.select.budget;
    json["sinks"] = combination.select.sinks;
    json["recent"] = combination.select.recent;
  }
  json["score"] = result.score.mean();
  json["scored_items"] = result.score.count;
  json["bits_per_byte"] = result.bits.mean();
  const bool full = combination.method == Method::kFull;
  const bool probed = result.probe.masses > 0;
  json["attention_mass"] = full || probed ? Json(result.probe.mean_mass()) : Json();
  json["top_k_recall"] = full || probed ? Json(result.probe.mean_recall()) : Json();
  json["tokens"] = result.tokens;
  json["rows_selected"] = result.engine.selected_rows + result.engine.tail_rows;
  json["rows_from_tail"] = result.engine.tail_rows;
  json["rows_hot"] = result.engine.hot_rows;
  json["rows_fetched"] = result.engine.fetched_rows;
  json["bytes_fetched"] = result.engine.fetched_bytes;
  json["bytes_without_hot_rows"] = result.engine.selected_rows * setup.row_bytes;
  json["bytes_full_attention"] = result.engine.full_attention_bytes;
  json["share_of_full_attention"] = result.share_of_full();
  json["hot_row_hit_rate"] = result.hit_rate();
  json["seconds"] = result.seconds;
  return json;
}

}  // namespace

std::string EvalTable(const EvalSetup& setup, const EvalSettings& settings,
                      const std::vector<EvalResult>& results, const Terminal& terminal) {
  Table table({{"task"},
               {"method"},
               {"profile"},
               {"budget", Align::kRight},
               {"score", Align::kRight},
               {"bits/byte", Align::kRight},
               {"mass", Align::kRight},
               {"recall", Align::kRight},
               {"rows/token", Align::kRight},
               {"fetched/token", Align::kRight},
               {"of full", Align::kRight},
               {"hot rows", Align::kRight},
               {"time", Align::kRight}});
  for (const EvalResult& result : results) table.AddRow(TableRow(result));
  std::string text = fmt::format(
      "{}\n{}\n",
      terminal.Bold(fmt::format("{}, {} documents of {} tokens a task, the last {} decoded, "
                                "{} sinks + {} recent, seed {}",
                                setup.model, settings.documents, FormatCount(settings.context),
                                std::min(settings.context, kScoredPositions), settings.sinks,
                                settings.recent, settings.seed)),
      table.Text(terminal));
  text += terminal.Dim(fmt::format("rows over {}; prefill {}, in all {}\n", setup.transport,
                                   FormatSeconds(setup.prefill_seconds),
                                   FormatSeconds(setup.total_seconds)));
  return text;
}

std::string EvalJson(const EvalSetup& setup, const EvalSettings& settings,
                     const std::vector<EvalResult>& results) {
  Json json;
  json["schema"] = "passband.eval/v1";
  json["settings"] = {{"model", setup.model},
                      {"fingerprint", setup.fingerprint},
                      {"transport", setup.transport},
                      {"text", setup.text_file},
                      {"context", settings.context},
                      {"scored_positions", std::min(settings.context, kScoredPositions)},
                      {"documents", settings.documents},
                      {"keys", settings.keys},
                      {"sinks", settings.sinks},
                      {"recent", settings.recent},
                      {"seed", settings.seed}};
  json["results"] = Json::array();
  for (const EvalResult& result : results) json["results"].push_back(ResultJson(setup, result));
  json["prefill_seconds"] = setup.prefill_seconds;
  json["total_seconds"] = setup.total_seconds;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace passband
