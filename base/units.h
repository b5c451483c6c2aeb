// Units: byte sizes and durations, as people write and read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace passband {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// "4096", "64KiB", "1.5GiB", "2GB" (decimal) -> bytes. kInvalidArgument names
// the text and shows an example.
StatusOr<uint64_t> ParseBytes(const std::string& text);

// "100000" -> 100000. Absent unless the text is digits and nothing else, and fits.
std::optional<uint64_t> ParseCount(const std::string& text);

// 1536 -> "1.50 KiB"; below 1 KiB "812 B".
std::string FormatBytes(double bytes);

// "250us", "20ms", "2s", "5m", "1h" -> duration; a bare number is refused,
// because nobody knows its unit.
StatusOr<std::chrono::nanoseconds> ParseDuration(const std::string& text);

// 1.5e-4 s -> "150 us".
std::string FormatSeconds(double seconds);

// A long time, to the second at most: 4.6 -> "5 s", 200 -> "3 min 20 s", 7500 -> "2 h 5 min".
std::string FormatSpan(double seconds);

// 1234567 -> "1,234,567".
std::string FormatCount(uint64_t count);

}  // namespace passband
