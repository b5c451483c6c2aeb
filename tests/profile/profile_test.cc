// Goal: a profile comes back from its JSON unchanged, and nothing malformed,
// damaged or made for another model is taken for one.
#include "profile/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "tests/profile/small_profile.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using ::testing::HasSubstr;

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ProfileTest, JsonRoundTripKeepsEveryBit) {
  for (const auto encoding : {kernels::SliceEncoding::kBf16, kernels::SliceEncoding::kInt4}) {
    const Profile profile = SmallProfile(encoding);
    const auto parsed = Profile::Parse(profile.ToJson());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ((*parsed)->digest(), profile.digest());
    EXPECT_EQ((*parsed)->fingerprint, profile.fingerprint);
    ASSERT_EQ((*parsed)->specs.size(), profile.specs.size());
    for (size_t i = 0; i < profile.specs.size(); ++i) {
      EXPECT_EQ((*parsed)->specs[i]->chunks, profile.specs[i]->chunks);
      EXPECT_EQ((*parsed)->specs[i]->mean, profile.specs[i]->mean);
      EXPECT_EQ((*parsed)->specs[i]->deviation, profile.specs[i]->deviation);
    }
  }
}

TEST(ProfileTest, AnyEditIsFoundByTheDigest) {
  const std::string json = SmallProfile().ToJson();
  const auto edited = Profile::Parse(Replaced(json, "\"tiny\"", "\"tina\""));
  EXPECT_EQ(edited.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(edited.status()), HasSubstr("calibrate again"));
}

TEST(ProfileTest, TruncationAtEveryLengthIsRefused) {
  const std::string json = SmallProfile().ToJson();
  const size_t whole = json.find_last_of('}');
  for (size_t length = 0; length <= whole; ++length) {
    EXPECT_FALSE(Profile::Parse(json.substr(0, length)).ok()) << length;
  }
}

TEST(ProfileTest, RandomBytesNeverPassOrCrash) {
  const std::string json = SmallProfile().ToJson();
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::string mutated = json;
    for (int i = 0; i < 3; ++i) mutated[random() % mutated.size()] = static_cast<char>(random());
    const auto parsed = Profile::Parse(mutated);
    if (parsed.ok()) {
      EXPECT_EQ((*parsed)->digest(), SmallProfile().digest()) << "seed " << seed;
    }
  }
}

TEST(ProfileTest, FieldsOutOfRangeAreNamed) {
  const std::string json = SmallProfile().ToJson();
  const std::vector<std::pair<std::string, std::string>> edits = {
      {"\"encoding\": \"int2\"", "\"encoding\": \"int3\""},
      {"\"layers\": 2", "\"layers\": 3"},
      {"\"rotary_dim\": 16", "\"rotary_dim\": 15"},
      {"\"rotary_dim\": 16", "\"rotary_dim\": 64"},
      {"\"kv_heads\": 2", "\"kv_heads\": 0"},
      {"\"head_dim\": 32", "\"head_dim\": -1"},
      {"\"chunks\":[1,5,6]", "\"chunks\":[1,5,5]"},
      {"\"chunks\":[1,5,6]", "\"chunks\":[1,5,8]"},
      {"\"chunks\":[1,5,6]", "\"chunks\":[]"},
      {"passband.profile/v1", "passband.profile/v9"}};
  for (const auto& [from, to] : edits) {
    const auto parsed = Profile::Parse(Replaced(json, from, to));
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << to;
    EXPECT_FALSE(Message(parsed.status()).empty());
  }
}

TEST(ProfileTest, DeepNestingIsRefused) {
  EXPECT_FALSE(Profile::Parse(std::string(100'000, '[')).ok());
  EXPECT_FALSE(Profile::Parse("{\"a\":" + std::string(100'000, '{')).ok());
}

TEST(ProfileTest, AnotherCheckpointIsRefusedWithBothFingerprints) {
  const Profile profile = SmallProfile();
  EXPECT_TRUE(profile.CheckModel(profile.fingerprint).ok());
  const ModelFingerprint other{.architecture = std::string(64, 'a'),
                               .weights = std::string(64, 'c')};
  const Status refused = profile.CheckModel(other);
  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(refused), HasSubstr(profile.fingerprint.short_text()));
  EXPECT_THAT(Message(refused), HasSubstr(other.short_text()));
}

TEST(ProfileTest, FilesAreReadBackAndFaultsNameThePath) {
  const test::TempFolder folder;
  const std::string path = folder / "round-trip.json";
  ASSERT_TRUE(SmallProfile().Save(path).ok());
  EXPECT_TRUE(Profile::Load(path).ok());
  EXPECT_EQ(Profile::Load(folder / "absent.json").status().code(), StatusCode::kNotFound);
  std::ofstream(path, std::ios::trunc) << "{";
  EXPECT_THAT(Message(Profile::Load(path).status()), HasSubstr("round-trip.json"));
  EXPECT_FALSE(SmallProfile().Save(folder / "no-such-folder/x.json").ok());
}

}  // namespace
}  // namespace passband
