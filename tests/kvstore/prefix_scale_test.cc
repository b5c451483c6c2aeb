// Goal: ten thousand sequences over a common prompt cost its rows once, in RAM and on their
// tenant's bill, whether they were opened, forked, or continued; and letting go of them gives all
// of it back.
#include <gtest/gtest.h>

#include <vector>

#include "base/units.h"
#include "kvstore/store.h"

namespace passband {
namespace {

constexpr uint64_t kSequences = 10'000;
constexpr uint64_t kPrompt = 8192;
constexpr KvShape kShape{.layers = 2, .kv_heads = 2, .row_bytes = 32};
const uint64_t kColumn = kShape.layers * kShape.block_bytes();  // 16 KiB
const uint64_t kPromptBytes = kPrompt / kBlockTokens * kColumn;

class PrefixScaleTest : public testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::Create({.arena = {.bytes = 256 * kMiB, .huge_pages = false}});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "Model", .shape = kShape}).ok());
    for (uint64_t i = 0; i < kPrompt; ++i) prompt_.push_back(static_cast<uint32_t>(i * 2654435761));
    const Store::OpenResult first = Open();
    first_ = first.id;
    ASSERT_EQ(first.matched_tokens, 0U);
    for (uint64_t at = 0; at < kPrompt; at += kBlockTokens) {
      ASSERT_NO_FATAL_FAILURE(Append(first_, at, static_cast<std::byte>(at / kBlockTokens)));
    }
  }
  Store::OpenResult Open() {
    const auto opened =
        store_->Open({.tenant = "ann", .model = "m", .owner = OwnerId(1), .token_ids = prompt_});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *opened;
  }
  void Append(SequenceId id, uint64_t first, std::byte mark) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      auto slot = store_->BeginAppend("ann", id, layer, first, kBlockTokens);
      ASSERT_TRUE(slot.ok()) << slot.status();
      const std::vector<std::byte> rows(slot->bytes(), mark);
      slot->Scatter(rows.data());
      ASSERT_TRUE(slot->Commit().ok());
    }
  }
  std::byte First(SequenceId id, uint64_t token) {
    PinnedRows rows;
    const Status status = store_->ResolveRange("ann", id, 1, token, 1, rows);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok() ? *rows.rows().front() : std::byte{0xff};
  }
  void ExpectHeld(uint64_t bytes) {
    EXPECT_EQ(store_->Stats().used_bytes, bytes);
    ASSERT_EQ(store_->Tenants(10).size(), 1U);
    EXPECT_EQ(store_->Tenants(10).front().bytes, bytes);
  }

  std::unique_ptr<Store> store_;
  std::vector<uint32_t> prompt_;
  SequenceId first_;
};

TEST_F(PrefixScaleTest, OpenedOverOnePromptTheyCostItOnce) {
  std::vector<SequenceId> ids = {first_};
  while (ids.size() < kSequences) {
    const Store::OpenResult opened = Open();
    ASSERT_EQ(opened.matched_tokens, kPrompt);
    ids.push_back(opened.id);
  }
  ExpectHeld(kPromptBytes);
  EXPECT_EQ(store_->Stats().sequences_open, kSequences);
  EXPECT_EQ(store_->Stats().stored_tokens, kSequences * kPrompt);
  EXPECT_EQ(store_->Stat("ann", ids.back())->shared_tokens, kPrompt);
  EXPECT_EQ(First(ids.back(), 4096), std::byte{64});
  // Each continues by itself: a block of its own in every layer, and the prompt still once.
  constexpr uint64_t kContinued = 5000;
  for (uint64_t i = 0; i < kContinued; ++i) {
    ASSERT_NO_FATAL_FAILURE(Append(ids[i], kPrompt, static_cast<std::byte>(i)));
  }
  ExpectHeld(kPromptBytes + kContinued * kColumn);
  EXPECT_EQ(First(ids[4321], kPrompt + 63), static_cast<std::byte>(4321));
  EXPECT_EQ(First(ids[4321], 4096), std::byte{64});
  for (const SequenceId id : ids) ASSERT_TRUE(store_->Close("ann", id).ok());
  EXPECT_EQ(store_->Stats().used_bytes, store_->Stats().cached_bytes);
  EXPECT_EQ(store_->Stats().used_bytes, kPromptBytes) << "the prompt can still be found";
  store_->Evict(~uint64_t{0});
  EXPECT_EQ(store_->Stats().used_bytes, 0U);
}

TEST_F(PrefixScaleTest, ForkedFromOneSequenceTheyCostItOnce) {
  std::vector<SequenceId> ids = {first_};
  while (ids.size() < kSequences) {
    const auto fork = store_->Fork("ann", first_, kPrompt, OwnerId(1));
    ASSERT_TRUE(fork.ok()) << fork.status();
    ids.push_back(*fork);
  }
  ExpectHeld(kPromptBytes);
  EXPECT_EQ(First(ids.back(), 8191), std::byte{127});
  // The one that made it goes; the others keep it.
  ASSERT_TRUE(store_->Close("ann", first_).ok());
  ExpectHeld(kPromptBytes);
  EXPECT_EQ(store_->CloseOwned(OwnerId(1)), kSequences - 1);
  EXPECT_EQ(store_->Stats().used_bytes, store_->Stats().cached_bytes);
}

}  // namespace
}  // namespace passband
