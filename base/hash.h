// Hashes: SHA-256 for identity, SipHash-2-4 for message authentication,
// XXH3-64 for checksums of bytes at rest and in flight.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace passband {

using Sha256Digest = std::array<std::byte, 32>;

// Incremental SHA-256 (OpenSSL). Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  Sha256& Update(std::span<const std::byte> bytes);
  Sha256& Update(const std::string& text);
  // The integer's eight bytes, little-endian.
  Sha256& Update(uint64_t value);
  Sha256Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256Digest HashSha256(std::span<const std::byte> bytes);

// Lower-case hexadecimal.
std::string ToHex(std::span<const std::byte> bytes);

// A 128-bit key that two parties share.
using MacKey = std::array<std::byte, 16>;

// SipHash-2-4 over both parts; the boundary between them counts.
uint64_t KeyedMac(const MacKey& key, std::span<const std::byte> first,
                  std::span<const std::byte> second = {});

uint64_t Checksum(std::span<const std::byte> bytes);

}  // namespace passband
