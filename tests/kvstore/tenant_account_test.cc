// Goal: accounts of tenants that went away are forgotten, and those in use never.
#include <gtest/gtest.h>

#include <string>

#include "kvstore/tenant_table.h"

namespace passband {
namespace {

TEST(TenantTableTest, QuotasAreThoseOfTheName) {
  TenantTable table({.bytes = 100, .sequences = {}}, {{"a", {.bytes = {}, .sequences = 2}}});
  EXPECT_EQ(table.Find("a")->use().quota.bytes, std::nullopt);
  EXPECT_EQ(table.Find("a")->use().quota.sequences, 2U);
  EXPECT_EQ(table.Find("b")->use().quota.bytes, 100U);
  EXPECT_EQ(table.Find("b")->use().quota.sequences, std::nullopt);
  EXPECT_TRUE(table.Uses(10).empty()) << "nobody holds anything";
}

TEST(TenantTableTest, ACrowdOfNamesIsForgottenAndThoseInUseStay) {
  TenantTable table({}, {});
  const auto kept = table.Find("kept");
  ASSERT_TRUE(kept->TakeSequence().ok());
  std::weak_ptr<TenantAccount> first;
  for (int i = 0; i < 100'000; ++i) {
    const auto account = table.Find("name-" + std::to_string(i));
    if (i == 0) first = account;
  }
  EXPECT_TRUE(first.expired());
  EXPECT_EQ(table.Find("kept"), kept);
  ASSERT_EQ(table.Uses(10).size(), 1U);
  EXPECT_EQ(table.Uses(10).front().tenant, "kept");
  EXPECT_EQ(table.Uses(10).front().sequences, 1U);
}

TEST(TenantAccountTest, QuotasRefuseByNameAndUse) {
  TenantAccount none("none", {.bytes = 0, .sequences = 0});
  EXPECT_TRUE(none.CheckRoom(0).ok());
  const Status bytes = none.CheckRoom(1);
  EXPECT_EQ(bytes.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(Message(bytes).find("tenant none holds 0 B of its quota of 0 B"), std::string::npos)
      << bytes;
  const Status sequence = none.TakeSequence();
  EXPECT_EQ(sequence.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(Message(sequence).find("tenant none has 0 sequences of its quota of 0"),
            std::string::npos)
      << sequence;
  EXPECT_EQ(none.use().rejections, 2U);
}

}  // namespace
}  // namespace passband
