#include "base/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace passband {
namespace {

// Splits "1.5GiB" into 1.5 and "GiB". False when no number leads the text.
bool SplitNumber(const std::string& text, double& number, std::string& unit) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  while (begin < end && std::isspace(static_cast<unsigned char>(*begin))) ++begin;
  const auto [rest, error] = std::from_chars(begin, end, number);
  if (error != std::errc() || !std::isfinite(number) || number < 0) return false;
  const char* unit_begin = rest;
  while (unit_begin < end && std::isspace(static_cast<unsigned char>(*unit_begin))) ++unit_begin;
  unit.assign(unit_begin, end);
  while (!unit.empty() && std::isspace(static_cast<unsigned char>(unit.back()))) unit.pop_back();
  return true;
}

}  // namespace

std::optional<uint64_t> ParseCount(const std::string& text) {
  uint64_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc() || stop != end) return std::nullopt;
  return count;
}

StatusOr<uint64_t> ParseBytes(const std::string& text) {
  static constexpr std::array<std::pair<const char*, double>, 12> kUnits{{{"", 1.0},
                                                                          {"B", 1.0},
                                                                          {"KiB", 1024.0},
                                                                          {"MiB", 1048576.0},
                                                                          {"GiB", 1073741824.0},
                                                                          {"TiB", 1099511627776.0},
                                                                          {"Ki", 1024.0},
                                                                          {"Mi", 1048576.0},
                                                                          {"Gi", 1073741824.0},
                                                                          {"KB", 1e3},
                                                                          {"MB", 1e6},
                                                                          {"GB", 1e9}}};
  static constexpr double kLimit = 9.2e18;
  // Not by way of a double, which would round it.
  const std::optional<uint64_t> plain = ParseCount(text);
  if (plain.has_value() && static_cast<double>(*plain) < kLimit) return *plain;
  double number = 0;
  std::string unit;
  if (SplitNumber(text, number, unit)) {
    for (const auto& [name, factor] : kUnits) {
      if (unit != name) continue;
      const double bytes = number * factor;
      if (bytes >= kLimit) break;
      return static_cast<uint64_t>(std::llround(bytes));
    }
  }
  return Error(StatusCode::kInvalidArgument,
               "'{}' is not a size; write it as 512MiB, 4GiB or a plain number of bytes", text);
}

std::string FormatBytes(double bytes) {
  static constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (std::abs(bytes) >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.2f} {}", bytes, kUnits[unit]);
}

StatusOr<std::chrono::nanoseconds> ParseDuration(const std::string& text) {
  static constexpr std::array<std::pair<const char*, double>, 6> kUnits{
      {{"ns", 1.0}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  double number = 0;
  std::string unit;
  if (SplitNumber(text, number, unit)) {
    for (const auto& [name, factor] : kUnits) {
      if (unit != name) continue;
      const double nanoseconds = number * factor;
      if (nanoseconds >= 9.2e18) break;
      return std::chrono::nanoseconds(std::llround(nanoseconds));
    }
  }
  return Error(StatusCode::kInvalidArgument,
               "'{}' is not a duration; write it with its unit: 250us, 20ms, 2s, 5m, 1h", text);
}

std::string FormatSeconds(double seconds) {
  const double magnitude = std::abs(seconds);
  if (magnitude >= 1) return fmt::format("{:.2f} s", seconds);
  if (magnitude >= 1e-3) return fmt::format("{:.2f} ms", seconds * 1e3);
  if (magnitude >= 1e-6) return fmt::format("{:.1f} us", seconds * 1e6);
  return fmt::format("{:.0f} ns", seconds * 1e9);
}

std::string FormatSpan(double seconds) {
  const auto total = static_cast<uint64_t>(std::llround(std::max(0.0, seconds)));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {} s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{} h {} min", total / 3600, total / 60 % 60);
  return fmt::format("{} d {} h", total / 86400, total / 3600 % 24);
}

std::string FormatCount(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

}  // namespace passband
