// Goal: what a full tier forgets of sealed sequences is recorded anew while it is in RAM, and
// told and counted when it is not; a catalog that fails holds nothing else up.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/kvstore/store_restart_fixture.h"

namespace passband {
namespace {

using test::kShape;
using test::kTenant;

class SealRenewalTest : public test::StoreRestartTest {
 protected:
  SealRenewalTest() { ram_blocks_ = 4096; }  // nothing leaves it
  // Sequences of one column, sealed and closed, until the tier forgot `generations` more.
  void Forget(uint64_t generations) {
    const uint64_t goal = store_->Stats().dropped_generations + generations;
    while (store_->Stats().dropped_generations < goal) {
      ASSERT_LT(++others_, 10'000u);
      const SequenceId id = Open(Ids(64, 1000 + others_));
      Append(id, 0, 64, others_);
      ASSERT_TRUE(store_->Seal(kTenant, id).ok());
      ASSERT_TRUE(store_->Close(kTenant, id).ok());
    }
  }
  void AwaitRenewals(uint64_t count) {
    EXPECT_TRUE(Eventually([&] {
      const StoreStats stats = store_->Stats();
      return stats.renewed_seals >= count && stats.renewals_pending == 0;
    })) << store_->Stats().renewed_seals
        << " renewed, " << store_->Stats().renewals_pending << " pending";
  }

  uint32_t others_ = 0;
};

TEST_F(SealRenewalTest, WhatIsInRamSurvivesWhatTheTierForgets) {
  UseTier(128, 16);
  const SequenceId whole = Open(Ids(128, 1));
  Append(whole, 0, 128, 1);
  const SequenceId part = Open(Ids(100, 2));
  Append(part, 0, 100, 2);
  ASSERT_TRUE(store_->Seal(kTenant, whole).ok());
  ASSERT_TRUE(store_->Seal(kTenant, part).ok());
  for (uint64_t round = 1; round <= 3; ++round) {
    ASSERT_TRUE(Check(whole, 0, 128, 1).ok());
    ASSERT_TRUE(Check(part, 0, 100, 2).ok());
    Forget(8);  // all that there were
    AwaitRenewals(round);
  }
  EXPECT_EQ(store_->Stats().lost_seals, 0u);
  Settle();
  CrashAndStart();
  EXPECT_EQ(store_->Stats().restored_sequences, 2u);
  EXPECT_TRUE(Check(whole, 0, 128, 1).ok()) << Check(whole, 0, 128, 1);
  EXPECT_TRUE(Check(part, 0, 100, 2).ok()) << Check(part, 0, 100, 2);
  EXPECT_EQ(*store_->Lookup(kTenant, "m", Ids(128, 1)), 128u);
}

TEST_F(SealRenewalTest, WithoutRenewalACrashCostsWhatWasForgotten) {
  UseTier(128, 16);
  const SequenceId id = Open(Ids(128, 1));
  Append(id, 0, 128, 1);
  ASSERT_TRUE(store_->Seal(kTenant, id).ok());
  catalog_.Fail(true);
  // Seals fail, blocks are written all the same.
  for (uint32_t i = 0; store_->Stats().dropped_generations < 8 && i < 1000; ++i) {
    const SequenceId other = Open(Ids(64, 1000 + i));
    Append(other, 0, 64, i);
    EXPECT_FALSE(store_->Seal(kTenant, other).ok());
    ASSERT_TRUE(store_->Close(kTenant, other).ok());
  }
  EXPECT_TRUE(Eventually([&] { return store_->Stats().renewals_pending == 1; }));
  EXPECT_EQ(store_->Seal(kTenant, id).code(), StatusCode::kUnavailable)
      << "no longer durable, and it says so";
  EXPECT_TRUE(Check(id, 0, 128, 1).ok());
  catalog_.Fail(false);
  EXPECT_TRUE(store_->Seal(kTenant, id).ok());
  CrashAndStart();
  EXPECT_TRUE(Check(id, 0, 128, 1).ok()) << Check(id, 0, 128, 1);
}

TEST_F(SealRenewalTest, ACatalogThatFailsDelaysErasingAndNothingElse) {
  const SequenceId closed = Open();
  Append(closed, 0, 70, 1);
  ASSERT_TRUE(store_->Seal(kTenant, closed).ok());
  const SequenceId kept = Open();
  Append(kept, 0, 70, 2);
  catalog_.Fail(true);
  ASSERT_TRUE(store_->Close(kTenant, closed).ok());
  EXPECT_TRUE(Eventually([&] { return store_->Stats().erasure_failures > 0; }));
  EXPECT_EQ(store_->Stats().erasures_pending, 1u);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(store_->Seal(kTenant, kept).code(), StatusCode::kUnavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5)) << "told at once";
  EXPECT_TRUE(Eventually([&] { return store_->Stats().erasure_failures >= 3; })) << "tried again";
  EXPECT_LT(store_->Stats().erasure_failures, 20u) << "ever more seldom";
  catalog_.Fail(false);
  EXPECT_TRUE(store_->Seal(kTenant, kept).ok());
  EXPECT_TRUE(Eventually([&] { return store_->Stats().erasures_pending == 0; }));
  EXPECT_EQ(catalog_.records(RecordKind::kSequence), 1u);
  CrashAndStart();
  EXPECT_EQ(store_->Stat(kTenant, closed).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(Check(kept, 0, 70, 2).ok());
}

TEST_F(SealRenewalTest, RandomSealsSurviveOrAreKnownToBeLost) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  UseTier(96, 8);
  std::map<uint64_t, std::pair<SequenceId, uint64_t>> live;  // by salt: id, tokens
  uint64_t salt = 0;
  for (int run = 0; run < 4; ++run) {
    for (int step = 0; step < 60; ++step) {
      if (live.size() < 4) {
        const uint64_t tokens = 1 + random() % 150;
        const SequenceId id = Open(Ids(tokens, static_cast<uint32_t>(++salt)));
        Append(id, 0, tokens, salt);
        ASSERT_TRUE(store_->Seal(kTenant, id).ok());
        live[salt] = {id, tokens};
        // A last block that is not whole is in the tier only, until it is read.
        ASSERT_TRUE(Check(id, 0, tokens, salt).ok());
      }
      Forget(random() % 2);
      if (random() % 4 == 0) {
        ASSERT_TRUE(store_->Close(kTenant, live.begin()->second.first).ok());
        live.erase(live.begin());
      }
    }
    EXPECT_TRUE(Eventually([&] { return store_->Stats().renewals_pending == 0; }));
    // Forgotten a moment ago, it may not be known yet.
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    EXPECT_TRUE(Eventually([&] { return store_->Stats().renewals_pending == 0; }));
    EXPECT_EQ(store_->Stats().lost_seals, 0u);
    Settle();
    CrashAndStart();
    EXPECT_EQ(store_->Stats().restored_sequences, live.size());
    for (const auto& [its, sequence] : live) {
      const Status read = Check(sequence.first, 0, sequence.second, its);
      ASSERT_TRUE(read.ok()) << read;
    }
  }
}

}  // namespace
}  // namespace passband
