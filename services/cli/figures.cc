#include "services/cli/figures.h"

#include <algorithm>
#include <cmath>

#include "base/units.h"

namespace passband {
namespace {

constexpr size_t kBarWidth = 40;

std::string Repeat(const char* text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

}  // namespace

std::string Percent(double share) {
  if (std::isnan(share)) return "-";
  const double percent = 100 * share;
  return percent > 99 && percent < 100 ? fmt::format("{:.2f} %", std::min(percent, 99.99))
                                       : fmt::format("{:.1f} %", percent);
}

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

std::string Counted(uint64_t count, const char* what) {
  return fmt::format("{} {}{}", FormatCount(count), what, count == 1 ? "" : "s");
}

std::string Rate(double per_second) {
  if (std::isnan(per_second)) return "-";
  if (per_second == 0) return "0";
  if (per_second < 10) return fmt::format("{:.1f}", per_second);
  return FormatCount(static_cast<uint64_t>(std::lround(std::min(per_second, 1e15))));
}

std::string ByteRate(double per_second) {
  if (std::isnan(per_second)) return "-";
  return per_second == 0 ? "0" : FormatBytes(per_second) + "/s";
}

std::string MemoryBar(uint64_t used, uint64_t cached, uint64_t capacity, const Terminal& terminal) {
  const auto cells = [capacity](uint64_t bytes) {
    if (bytes == 0 || capacity == 0) return size_t{0};
    const double share = static_cast<double>(bytes) / static_cast<double>(capacity);
    const auto rounded =
        static_cast<size_t>(std::lround(std::min(1.0, share) * static_cast<double>(kBarWidth)));
    return std::clamp<size_t>(rounded, 1, kBarWidth);
  };
  const size_t held = cells(used - std::min(cached, used));
  const size_t rest = std::min(cells(cached), kBarWidth - held);
  return terminal.Cyan(Repeat("█", held)) + Repeat("▓", rest) +
         terminal.Dim(Repeat("░", kBarWidth - held - rest));
}

std::string Printable(std::string_view text) {
  std::string out(text);
  std::replace_if(
      out.begin(), out.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return out;
}

}  // namespace passband
