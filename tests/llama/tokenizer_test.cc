// Goal: bytes go to tokens and back unchanged; lists of token ids are read in
// both forms, and anything else is refused by name.
#include "llama/tokenizer.h"

#include <gtest/gtest.h>

namespace passband {
namespace {

TEST(TokenizerTest, EveryByteIsItsOwnToken) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::vector<uint32_t> tokens = EncodeBytes(all);
  EXPECT_EQ(tokens.front(), 0);
  EXPECT_EQ(tokens.back(), 255);
  EXPECT_EQ(DecodeBytes(tokens), all);
  EXPECT_EQ(DecodeBytes(std::vector<uint32_t>{65, 256}), "A?");
}

TEST(TokenizerTest, ReadsBothForms) {
  for (const char* text : {"1 2\n30", "  1\t2 30\n", "[1,2,30]", " [ 1 , 2,\n30 ] "}) {
    const auto ids = ParseTokenIds(text, 31);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, (std::vector<uint32_t>{1, 2, 30})) << text;
  }
  for (const char* text : {"", "  ", "[]", "[ ]"}) {
    const auto ids = ParseTokenIds(text, 31);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_TRUE(ids->empty());
  }
}

TEST(TokenizerTest, RefusesAnythingElse) {
  for (const char* text : {"1 x", "31", "-1", "1.5", "[1,2", "[1,]", "[,1]", "[1 2]", "1,2", "[",
                           "99999999999999999999"}) {
    const auto ids = ParseTokenIds(text, 31);
    EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace passband
