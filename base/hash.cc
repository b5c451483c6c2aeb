#include "base/hash.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <xxhash.h>

#include <cstring>

#include "base/status.h"

namespace passband {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { PASSBAND_CHECK(EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;

Sha256& Sha256::Update(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
  return *this;
}

Sha256& Sha256::Update(const std::string& text) { return Update(std::as_bytes(std::span(text))); }

Sha256& Sha256::Update(uint64_t value) {
  std::array<std::byte, 8> bytes;
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
  return Update(bytes);
}

Sha256Digest Sha256::Finish() {
  Sha256Digest digest{};
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(digest.data()), &size);
  return digest;
}

Sha256Digest HashSha256(std::span<const std::byte> bytes) {
  return Sha256().Update(bytes).Finish();
}

std::string ToHex(std::span<const std::byte> bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::byte b : bytes) out += fmt::format("{:02x}", static_cast<unsigned>(b));
  return out;
}

uint64_t KeyedMac(const MacKey& key, std::span<const std::byte> first,
                  std::span<const std::byte> second) {
  // A MAC over (MAC of the first part, second part) binds both parts and their
  // boundary without copying them together.
  static_assert(crypto_shorthash_KEYBYTES == 16 && crypto_shorthash_BYTES == 8);
  const auto siphash = [&](std::span<const std::byte> bytes) {
    uint64_t out = 0;
    crypto_shorthash(reinterpret_cast<unsigned char*>(&out),
                     reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                     reinterpret_cast<const unsigned char*>(key.data()));
    return out;
  };
  if (second.empty()) return siphash(first);
  const std::array<uint64_t, 2> parts{siphash(first), siphash(second)};
  return siphash(std::as_bytes(std::span(parts)));
}

uint64_t Checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace passband
