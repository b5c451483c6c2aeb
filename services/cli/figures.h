// How commands write shares, bytes and memory, for people.
//
// Units    shares from 0 to 1; NaN is written as "-".
// Threads  pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "services/console/terminal.h"

namespace passband {

// "97.2 %". What is nearly all is never shown as all.
std::string Percent(double share);
std::string Bytes(uint64_t bytes);
// "1 session", "2 sessions".
std::string Counted(uint64_t count, const char* what);
// "1,204", "12.5": digits that matter.
std::string Rate(double per_second);
std::string ByteRate(double per_second);

// In sequences, cached, free, as a bar. What is there at all is seen.
std::string MemoryBar(uint64_t used, uint64_t cached, uint64_t capacity, const Terminal& terminal);

// Names come from strangers: what would steer a terminal is written as '?'.
std::string Printable(std::string_view text);

}  // namespace passband
