// Goal: contexts larger than RAM: blocks leave for the tier and come back with the same bytes,
// one plane at a time; no call waits for the tier unless it says so; what the tier has lost is
// an error that names it, and costs nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <thread>

#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

constexpr char kTenant[] = "ann";
constexpr KvShape kShape{.layers = 2, .kv_heads = 4, .row_bytes = 16};
const uint64_t kBlockBytes = kShape.block_bytes();  // 4 KiB

class StoreSpillTest : public testing::Test {
 protected:
  void SetUp() override { Start({}); }

  void Start(Store::Options options) {
    store_.reset();
    options.arena = {.bytes = 16 * kBlockBytes, .slab_bytes = kBlockBytes};
    options.tier = &tier_;
    auto store = Store::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "", .shape = kShape}).ok());
  }
  SequenceId Open(std::vector<uint32_t> ids = {}) {
    const auto opened = store_->Open(
        {.tenant = kTenant, .model = "m", .owner = OwnerId(1), .token_ids = std::move(ids)});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened->id;
  }
  // What row `token` of this head holds, all 16 bytes of it.
  static std::byte Mark(uint64_t salt, uint32_t layer, uint64_t token, uint32_t head) {
    return static_cast<std::byte>(salt * 31 + layer * 97 + token * 7 + head * 3 + 1);
  }
  Status AppendOnce(SequenceId id, uint32_t layer, uint64_t first, uint32_t count, uint64_t salt) {
    PASSBAND_ASSIGN_OR_RETURN(Store::AppendSlot slot,
                              store_->BeginAppend(kTenant, id, layer, first, count));
    std::vector<std::byte> rows;
    for (uint32_t head = 0; head < kShape.kv_heads; ++head) {
      for (uint64_t t = first; t < first + count; ++t) {
        rows.insert(rows.end(), kShape.row_bytes, Mark(salt, layer, t, head));
      }
    }
    slot.Scatter(rows.data());
    return slot.Commit();
  }
  void Append(SequenceId id, uint64_t first, uint64_t count, uint64_t salt) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      for (uint64_t t = first; t < first + count;) {
        const auto piece =
            static_cast<uint32_t>(std::min(first + count - t, kBlockTokens - t % kBlockTokens));
        Status status;
        for (int i = 0; i < 1000; ++i) {
          status = AppendOnce(id, layer, t, piece, salt);
          if (status.code() != StatusCode::kResourceExhausted) break;
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        ASSERT_TRUE(status.ok()) << status;
        t += piece;
      }
    }
  }
  Status Check(SequenceId id, uint32_t layer, uint64_t first, uint64_t count, uint64_t salt) {
    PinnedRows rows;
    PASSBAND_RETURN_IF_ERROR(store_->ResolveRange(kTenant, id, layer, first, count, rows));
    for (uint64_t i = 0; i < rows.rows().size(); ++i) {
      const std::vector<std::byte> row(
          kShape.row_bytes, Mark(salt, layer, first + i % count, static_cast<uint32_t>(i / count)));
      if (std::memcmp(rows.rows()[i], row.data(), row.size()) != 0) {
        return Error(StatusCode::kInternal, "layer {} token {} is wrong", layer, first + i % count);
      }
    }
    return OkStatus();
  }
  void ExpectWhole(SequenceId id, uint64_t tokens, uint64_t salt) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      for (uint64_t first = 0; first < tokens; first += kBlockTokens) {
        const Status status =
            Check(id, layer, first, std::min<uint64_t>(kBlockTokens, tokens - first), salt);
        EXPECT_TRUE(status.ok()) << status;
      }
    }
  }
  // Appends to a sequence of its own until nothing of the others is resident.
  SequenceId PushOut() {
    const SequenceId id = Open();
    Append(id, 0, 16 * kBlockTokens, 99);
    return id;
  }

  MemoryTier tier_{64 * kMiB, 64 * kKiB};
  std::unique_ptr<Store> store_;
};

TEST_F(StoreSpillTest, FourTimesTheArenaComesBackWhole) {
  std::vector<SequenceId> ids;
  // Rows of an unfinished block stay in RAM: of two sequences only.
  const auto length = [](uint64_t s) { return 4 * kBlockTokens + (s < 2 ? 10 : 0); };
  for (uint64_t s = 0; s < 8; ++s) {
    ids.push_back(Open());
    Append(ids.back(), 0, length(s), s);
  }
  for (int round = 0; round < 3; ++round) {
    for (uint64_t s = 0; s < 8; ++s) ExpectWhole(ids[s], length(s), s);
  }
  const StoreStats stats = store_->Stats();
  EXPECT_LE(stats.used_bytes, 16 * kBlockBytes);
  EXPECT_GT(stats.spilled_bytes, 0u);
  EXPECT_GT(stats.restored_blocks, 0u);
  EXPECT_EQ(stats.lost_blocks, 0u);
  for (const SequenceId id : ids) ASSERT_TRUE(store_->Close(kTenant, id).ok());
  // Threads of the store may be about to let go of a block.
  for (int i = 0; i < 1000 && tier_.Stats().blocks + store_->Stats().used_bytes > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(store_->Stats().used_bytes, 0u);
  EXPECT_EQ(store_->Stats().spilled_bytes, 0u);
  EXPECT_EQ(tier_.Stats().blocks, 0u) << "what nobody claims is dropped";
}

TEST_F(StoreSpillTest, ACallThatFindsSomethingMissingSaysSoAtOnce) {
  const SequenceId id = Open();
  Append(id, 0, 2 * kBlockTokens, 1);
  PushOut();
  const std::vector<uint32_t> tokens{3, 70, 5};
  const RowGroup group{.sequence = id, .layer = 1, .kv_head = 2, .tokens = tokens};
  PinnedRows rows;
  MissingBlocks missing;
  ASSERT_TRUE(store_->Resolve(kTenant, {&group, 1}, rows, missing).ok());
  ASSERT_EQ(missing.parts().size(), 2u);
  EXPECT_TRUE(rows.rows().empty());
  for (const auto& part : missing.parts()) {
    EXPECT_EQ(part.planes, PlaneSet{1} << 2);
    EXPECT_EQ(part.sequence, id);
    EXPECT_EQ(part.layer, 1u);
  }
  EXPECT_EQ(missing.plane_bytes(), 2 * kBlockBytes / 4);
  const uint64_t before = store_->Stats().restored_bytes;
  std::promise<std::pair<Status, RestoreHold>> done;
  store_->Restore(missing, std::chrono::steady_clock::now() + std::chrono::seconds(10),
                  [&](const Status& status, RestoreHold hold) {
                    done.set_value({status, std::move(hold)});
                  });
  const auto [status, hold] = done.get_future().get();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(hold.size(), 2u);
  EXPECT_EQ(store_->Stats().restored_bytes - before, 2 * kBlockBytes / 4) << "one head was wanted";
  ASSERT_TRUE(store_->Resolve(kTenant, {&group, 1}, rows, missing).ok());
  ASSERT_TRUE(missing.empty());
  EXPECT_EQ(*rows.rows()[1], Mark(1, 1, 70, 2));
  // Another head of the same blocks is still below.
  const RowGroup other{.sequence = id, .layer = 1, .kv_head = 0, .tokens = tokens};
  PinnedRows others;
  ASSERT_TRUE(store_->Resolve(kTenant, {&other, 1}, others, missing).ok());
  EXPECT_EQ(missing.parts().size(), 2u);
  ASSERT_TRUE(store_->Resolve(kTenant, {&other, 1}, others).ok());
  EXPECT_EQ(*others.rows()[0], Mark(1, 1, 3, 0));
}

TEST_F(StoreSpillTest, PinnedRowsStayWhateverIsAppended) {
  const SequenceId id = Open();
  Append(id, 0, 2 * kBlockTokens, 1);
  PinnedRows rows;
  ASSERT_TRUE(store_->ResolveRange(kTenant, id, 0, 0, kBlockTokens, rows).ok());
  PushOut();
  for (uint64_t i = 0; i < rows.rows().size(); ++i) {
    ASSERT_EQ(*rows.rows()[i],
              Mark(1, 0, i % kBlockTokens, static_cast<uint32_t>(i / kBlockTokens)));
  }
}

TEST_F(StoreSpillTest, AppendingToASharedTailThatIsBelowCopiesIt) {
  const SequenceId parent = Open();
  Append(parent, 0, kBlockTokens, 1);
  const auto fork = store_->Fork(kTenant, parent, 30, OwnerId(1));
  ASSERT_TRUE(fork.ok()) << fork.status();
  PushOut();
  MissingBlocks missing;
  const auto slot = store_->BeginAppend(kTenant, *fork, 0, 30, 1, missing);
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_FALSE(*slot);
  ASSERT_EQ(missing.parts().size(), 1u);
  EXPECT_EQ(missing.parts()[0].planes, PlaneSet{0xf});
  Append(*fork, 30, 10, 2);
  for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
    EXPECT_TRUE(Check(*fork, layer, 0, 30, 1).ok());
    EXPECT_TRUE(Check(*fork, layer, 30, 10, 2).ok());
    EXPECT_TRUE(Check(parent, layer, 0, kBlockTokens, 1).ok());
  }
}

TEST_F(StoreSpillTest, APrefixIsFoundThoughItIsBelow) {
  std::vector<uint32_t> ids(2 * kBlockTokens, 7);
  const SequenceId id = Open(ids);
  Append(id, 0, 2 * kBlockTokens, 1);
  ASSERT_TRUE(store_->Close(kTenant, id).ok());
  PushOut();
  const auto again = store_->Open({.tenant = kTenant, .model = "m", .owner = {}, .token_ids = ids});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->matched_tokens, 2 * kBlockTokens);
  ExpectWhole(again->id, 2 * kBlockTokens, 1);
}

TEST_F(StoreSpillTest, DamageIsNamedAndCostsItsBlockAlone) {
  std::vector<uint32_t> ids(2 * kBlockTokens, 7);
  const SequenceId id = Open(ids);
  Append(id, 0, 2 * kBlockTokens, 1);
  const SequenceId other = Open();
  Append(other, 0, kBlockTokens, 2);
  PushOut();
  MissingBlocks missing;
  PinnedRows rows;
  ASSERT_TRUE(store_->ResolveRange(kTenant, id, 1, 64, 64, rows, missing).ok());
  ASSERT_EQ(missing.parts().size(), 1u);
  tier_.Damage(missing.parts()[0].block->address());
  const Status status = Check(id, 1, 64, 64, 1);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_THAT(Message(status), testing::HasSubstr("layer 1 tokens [64, 128)"));
  EXPECT_THAT(Message(status), testing::HasSubstr(fmt::format("sequence {}", id)));
  EXPECT_TRUE(Check(id, 1, 0, 64, 1).ok());
  EXPECT_TRUE(Check(id, 0, 64, 64, 1).ok());
  EXPECT_TRUE(Check(other, 0, 0, 64, 2).ok());
  EXPECT_EQ(store_->Stats().lost_blocks, 1u);
  EXPECT_EQ(*store_->Lookup(kTenant, "m", ids), kBlockTokens) << "the second column is no use";
}

TEST_F(StoreSpillTest, AJobLargerThanRamIsRefused) {
  const SequenceId id = Open();
  Append(id, 0, 20 * kBlockTokens, 1);
  PinnedRows rows;
  const Status status = store_->ResolveRange(kTenant, id, 0, 0, 20 * kBlockTokens, rows);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_FALSE(RetryAfter(status).has_value());
  EXPECT_THAT(Message(status), testing::HasSubstr("fewer rows"));
  EXPECT_TRUE(Check(id, 0, 0, 6 * kBlockTokens, 1).ok());
}

TEST_F(StoreSpillTest, WhatIsPinnedDoesNotMakeRoom) {
  Start({.restore_wait = std::chrono::milliseconds(100)});
  const SequenceId id = Open();
  Append(id, 0, 14 * kBlockTokens, 1);
  std::vector<PinnedRows> held;
  Status status;
  for (uint64_t block = 0; block < 28 && status.ok(); ++block) {
    status = store_->ResolveRange(kTenant, id, static_cast<uint32_t>(block % 2),
                                  block / 2 * kBlockTokens, kBlockTokens, held.emplace_back());
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(RetryAfter(status).has_value());
  held.clear();
  ExpectWhole(id, 14 * kBlockTokens, 1);
}

}  // namespace
}  // namespace passband
