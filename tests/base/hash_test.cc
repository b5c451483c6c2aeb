// Goal: the hashes are the published functions, and the MAC binds key and parts.
#include "base/hash.h"

#include <gtest/gtest.h>

#include <set>

#include "base/random.h"

namespace passband {
namespace {

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(HashTest, Sha256MatchesTheStandardsExample) {
  EXPECT_EQ(ToHex(HashSha256(Bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256().Update("a").Update("bc").Finish(), HashSha256(Bytes("abc")));
}

TEST(HashTest, IntegersAreHashedLittleEndian) {
  const std::string bytes("\x01\x02\x00\x00\x00\x00\x00\x00", 8);
  EXPECT_EQ(Sha256().Update(uint64_t{0x0201}).Finish(), HashSha256(Bytes(bytes)));
}

TEST(HashTest, MacDependsOnKeyPartsAndTheirBoundary) {
  MacKey key{}, other{};
  RandomBytes(key);
  RandomBytes(other);
  const std::set<uint64_t> macs = {KeyedMac(key, Bytes("ab"), Bytes("c")),
                                   KeyedMac(key, Bytes("a"), Bytes("bc")),
                                   KeyedMac(key, Bytes("abc")), KeyedMac(other, Bytes("abc"))};
  EXPECT_EQ(macs.size(), 4U);
  EXPECT_EQ(KeyedMac(key, Bytes("ab"), Bytes("c")), KeyedMac(key, Bytes("ab"), Bytes("c")));
}

TEST(HashTest, ChecksumSeesEveryBit) {
  std::string text(200, 'x');
  const uint64_t whole = Checksum(Bytes(text));
  for (char& c : text) {
    for (int bit = 0; bit < 8; ++bit) {
      c = static_cast<char>(c ^ (1 << bit));
      EXPECT_NE(Checksum(Bytes(text)), whole);
      c = static_cast<char>(c ^ (1 << bit));
    }
  }
}

}  // namespace
}  // namespace passband
