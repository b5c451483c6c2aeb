#include "base/random.h"

#include <openssl/rand.h>

#include <array>
#include <bit>

#include "base/status.h"

namespace passband {

void RandomBytes(std::span<std::byte> out) {
  PASSBAND_CHECK(
      RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) == 1);
}

uint64_t RandomU64() {
  std::array<std::byte, 8> bytes;
  RandomBytes(bytes);
  return std::bit_cast<uint64_t>(bytes);
}

}  // namespace passband
