// Finding: what `passband doctor` found out about one thing, and what to do about it.
//
// Threads  plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace passband::doctor {

enum class Verdict : uint8_t { kPass, kWarn, kFail, kSkip };

struct Finding {
  std::string check;
  Verdict verdict = Verdict::kSkip;
  std::string what;
  std::string fix;  // never empty for kWarn and kFail
};

inline Finding Pass(std::string check, std::string what) {
  return {std::move(check), Verdict::kPass, std::move(what), ""};
}
inline Finding Warn(std::string check, std::string what, std::string fix) {
  return {std::move(check), Verdict::kWarn, std::move(what), std::move(fix)};
}
inline Finding Fail(std::string check, std::string what, std::string fix) {
  return {std::move(check), Verdict::kFail, std::move(what), std::move(fix)};
}
inline Finding Skip(std::string check, std::string why) {
  return {std::move(check), Verdict::kSkip, std::move(why), ""};
}

}  // namespace passband::doctor
