// Goal: of made-up rows every single wrong byte, and every row from a wrong place, is found.
#include "services/cli/synthetic_rows.h"

#include <gmock/gmock.h>

namespace passband {
namespace {

using ::testing::HasSubstr;

ModelInfo Model() { return SyntheticModel(2, 3, {.head_dim = 24, .rotary_dim = 24}); }

TEST(SyntheticRowsTest, FindsEveryWrongByte) {
  const SyntheticRows rows(Model(), 7);
  std::vector<std::byte> made;
  rows.Fill(1, 64, 2, made);
  ASSERT_EQ(made.size(), 3 * 2 * 96U);
  ASSERT_TRUE(rows.CheckRange(1, 64, 2, made).ok());
  for (std::byte& byte : made) {
    byte ^= std::byte{1};
    EXPECT_EQ(rows.CheckRange(1, 64, 2, made).code(), StatusCode::kDataLoss);
    byte ^= std::byte{1};
  }
  EXPECT_EQ(rows.CheckRange(1, 64, 2, std::span(made).first(96)).code(), StatusCode::kInternal);
}

TEST(SyntheticRowsTest, EveryPlaceHasRowsOfItsOwn) {
  const SyntheticRows rows(Model(), 7), others(Model(), 8);
  std::vector<std::byte> made;
  rows.Fill(1, 5, 1, made);
  const auto row = std::span(made).subspan(2 * 96, 96);
  const uint32_t here = 5, beside = 6;
  ASSERT_TRUE(rows.CheckRows(1, 2, {&here, 1}, row).ok());
  EXPECT_FALSE(rows.CheckRows(0, 2, {&here, 1}, row).ok());
  EXPECT_FALSE(rows.CheckRows(1, 1, {&here, 1}, row).ok());
  EXPECT_FALSE(others.CheckRows(1, 2, {&here, 1}, row).ok());
  EXPECT_THAT(Message(rows.CheckRows(1, 2, {&beside, 1}, row)),
              HasSubstr("layer 1, kv head 2, token 6"));
}

TEST(SyntheticRowsTest, SlicesAreThoseOfTheRows) {
  const ModelInfo model = Model();
  const auto profile = SyntheticProfile(model);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_TRUE((*profile)->CheckModel(model.fingerprint).ok());
  const SyntheticRows rows(model, 7);
  std::vector<std::byte> made, slices;
  rows.Fill(0, 0, 64, made);
  slices.resize(3 * 64 * (*profile)->slice_bytes());
  for (uint32_t head = 0; head < 3; ++head) {
    kernels::EncodeSlices(*(*profile)->spec(0, head), made.data() + head * 64 * size_t{96}, 96, 64,
                          slices.data() + head * 64 * (*profile)->slice_bytes());
  }
  EXPECT_TRUE(rows.CheckSlices(**profile, 0, 64, slices).ok());
  slices[17] ^= std::byte{4};
  EXPECT_EQ(rows.CheckSlices(**profile, 0, 64, slices).code(), StatusCode::kDataLoss);
}

TEST(SyntheticRowsTest, AShapeHasOneFingerprint) {
  EXPECT_EQ(Model().fingerprint, Model().fingerprint);
  EXPECT_NE(Model().fingerprint.text(),
            SyntheticModel(2, 3, {.head_dim = 32, .rotary_dim = 32}).fingerprint.text());
}

}  // namespace
}  // namespace passband
