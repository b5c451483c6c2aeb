#include "services/cli/sequence_text.h"

#include <algorithm>

#include "base/units.h"

namespace passband {
namespace {

std::string SpanText(std::chrono::milliseconds time) {
  return time.count() == 0 ? "-" : FormatSpan(std::chrono::duration<double>(time).count());
}

}  // namespace

const char* StateName(const SequenceStat& stat) { return stat.sealed ? "sealed" : "open"; }

std::string ModelLabel(const std::string& fingerprint, std::span<const ModelSummary> models) {
  constexpr size_t kShort = 8;
  const std::string start = fingerprint.substr(0, kShort);
  const auto model = std::find_if(models.begin(), models.end(), [&](const ModelSummary& each) {
    return each.fingerprint == fingerprint;
  });
  if (model == models.end() || model->name.empty()) return start;
  return model->name + " (" + start + ")";
}

std::string TtlText(const SequenceStat& stat) { return SpanText(stat.ttl); }

std::string PinText(const SequenceStat& stat) { return SpanText(stat.pinned_for); }

nlohmann::ordered_json ToJson(const SequenceStat& stat) {
  return {{"sequence", stat.id.value()},
          {"tenant", stat.tenant},
          {"model", stat.model},
          {"state", StateName(stat)},
          {"tokens", stat.committed_tokens},
          {"known_tokens", stat.known_tokens},
          {"shared_tokens", stat.shared_tokens},
          {"resident_bytes", stat.resident_bytes},
          {"idle_seconds", stat.idle_seconds},
          {"ttl_seconds", std::chrono::duration<double>(stat.ttl).count()},
          {"pin_seconds", std::chrono::duration<double>(stat.pinned_for).count()}};
}

}  // namespace passband
