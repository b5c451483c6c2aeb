// RandomBytes: unpredictable bytes for secrets and ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace passband {

// Fills `out` from the operating system's generator. Thread-safe.
void RandomBytes(std::span<std::byte> out);

uint64_t RandomU64();

}  // namespace passband
