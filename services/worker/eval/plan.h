// EvalPlan: what an evaluation compares: methods, profiles and budgets, every
// sensible combination of them once.
//
//   full                  one combination
//   oracle, stream, quest one for every budget
//   fasa                  one for every profile and budget
//
// Threads  plain values.
// Errors   kInvalidArgument for an unknown method, a budget smaller than
//          sinks + recent (or than a page, for quest), fasa without a profile.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/select.h"
#include "llama/tasks.h"
#include "profile/profile.h"

namespace passband {

enum class Method : uint8_t { kFull, kOracle, kFasa, kStream, kQuest };

// "full", "oracle", "fasa", "stream", "quest".
const char* MethodName(Method method);
StatusOr<Method> ParseMethod(const std::string& name);

struct NamedProfile {
  std::string name;  // for people: the file's stem
  std::shared_ptr<const Profile> profile;
};

struct EvalSettings {
  std::vector<Task> tasks;
  std::vector<Method> methods;
  std::vector<NamedProfile> profiles;
  std::vector<uint32_t> budgets = {256};
  uint32_t sinks = 4;
  uint32_t recent = 64;
  uint32_t hot_rows = 0;  // per head; 0: 4 x budget
  uint32_t context = 8192;
  uint32_t documents = 1;
  uint32_t keys = 16;  // of a needle document
  uint64_t seed = 1;
  bool probe = true;
};

struct Combination {
  Method method = Method::kFull;
  NamedProfile profile;  // fasa only
  kernels::SelectOptions select;

  // "fasa greedy-24-int2 256": for people and progress lines.
  std::string Label() const;
  // A set for every query head (the paper's) rather than one for the group.
  bool per_query_head() const {
    return profile.profile != nullptr &&
           profile.profile->granularity == Profile::Granularity::kQueryHead;
  }
};

// Checks the settings and lists the combinations, in the order given.
StatusOr<std::vector<Combination>> MakePlan(const EvalSettings& settings);

}  // namespace passband
