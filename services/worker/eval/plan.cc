#include "services/worker/eval/plan.h"

#include <algorithm>
#include <array>

#include "services/worker/eval/selectors.h"

namespace passband {
namespace {

constexpr std::array<const char*, 5> kMethodNames = {"full", "oracle", "fasa", "stream", "quest"};

Status CheckBudgets(const EvalSettings& settings) {
  const uint64_t forced = uint64_t{settings.sinks} + settings.recent;
  const bool quest = std::find(settings.methods.begin(), settings.methods.end(), Method::kQuest) !=
                     settings.methods.end();
  for (const uint32_t budget : settings.budgets) {
    if (budget == 0 || budget < forced) {
      return Error(StatusCode::kInvalidArgument,
                   "budget {} is smaller than {} sinks + {} recent tokens; give --budget {} or "
                   "more, or fewer sinks or recent tokens",
                   budget, settings.sinks, settings.recent, std::max<uint64_t>(forced, 1));
    }
    if (quest && budget < kQuestPage) {
      return Error(StatusCode::kInvalidArgument, "quest selects pages of {}: budget {} is less",
                   kQuestPage, budget);
    }
  }
  return OkStatus();
}

}  // namespace

const char* MethodName(Method method) { return kMethodNames[static_cast<size_t>(method)]; }

StatusOr<Method> ParseMethod(const std::string& name) {
  for (size_t i = 0; i < kMethodNames.size(); ++i) {
    if (name == kMethodNames[i]) return static_cast<Method>(i);
  }
  return Error(StatusCode::kInvalidArgument,
               "method \"{}\" is not one of full, oracle, fasa, stream, quest", name);
}

std::string Combination::Label() const {
  std::string label = MethodName(method);
  if (!profile.name.empty()) label += " " + profile.name;
  if (method != Method::kFull) label += fmt::format(" {}", select.budget);
  return label;
}

StatusOr<std::vector<Combination>> MakePlan(const EvalSettings& settings) {
  PASSBAND_RETURN_IF_ERROR(CheckBudgets(settings));
  std::vector<Combination> plan;
  const auto add = [&](Method method, const NamedProfile& profile) {
    for (const uint32_t budget : settings.budgets) {
      plan.push_back({method, profile, {budget, settings.sinks, settings.recent}});
      if (method == Method::kFull) break;
    }
  };
  for (const Method method : settings.methods) {
    if (method != Method::kFasa) {
      add(method, {});
      continue;
    }
    if (settings.profiles.empty()) {
      return Error(StatusCode::kInvalidArgument,
                   "fasa needs a profile: give --profile FILE, or make one with `passband "
                   "calibrate`");
    }
    for (const NamedProfile& profile : settings.profiles) add(method, profile);
  }
  return plan;
}

}  // namespace passband
