// Goal: the store's contract, one promise a test: sharing, isolation, life and
// death of sequences, and the status of every refusal.
#include "kvstore/store.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "tests/kvstore/manual_clock.h"

namespace passband {
namespace {

constexpr KvShape kShape{.layers = 2, .kv_heads = 2, .row_bytes = 16};

class StoreTest : public testing::Test {
 protected:
  void SetUp() override { Start(4 << 20, 100); }

  void Start(uint64_t bytes, uint64_t max_sequences) {
    store_.reset();
    auto store = Store::Create(
        {.arena = {.bytes = bytes}, .max_sequences = max_sequences, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "M", .shape = kShape}).ok());
  }
  SequenceId Open(const std::string& tenant, std::vector<uint32_t> ids = {}, uint64_t owner = 1) {
    return OpenMatched(tenant, std::move(ids), owner).id;
  }
  Store::OpenResult OpenMatched(const std::string& tenant, std::vector<uint32_t> ids,
                                uint64_t owner = 1) {
    const auto opened = store_->Open(
        {.tenant = tenant, .model = "m", .owner = OwnerId(owner), .token_ids = std::move(ids)});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *opened;
  }
  // Appends `count` tokens whose rows are all `mark` in every layer.
  void Append(const std::string& tenant, SequenceId id, uint64_t count, int mark) {
    const uint64_t start = store_->Stat(tenant, id)->committed_tokens;
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      for (uint64_t first = start; first < start + count;) {
        const uint64_t piece = std::min(start + count - first, kBlockTokens - first % kBlockTokens);
        auto slot = store_->BeginAppend(tenant, id, layer, first, static_cast<uint32_t>(piece));
        ASSERT_TRUE(slot.ok()) << slot.status();
        const std::vector<std::byte> rows(slot->bytes(), static_cast<std::byte>(mark));
        slot->Scatter(rows.data());
        ASSERT_TRUE(slot->Commit().ok());
        first += piece;
      }
    }
  }
  StatusCode BeginCode(SequenceId id, uint32_t layer, uint64_t first, uint32_t count) {
    return store_->BeginAppend("t", id, layer, first, count).status().code();
  }
  static std::vector<uint32_t> Prompt(uint64_t count) {
    std::vector<uint32_t> ids(count);
    std::iota(ids.begin(), ids.end(), 7);
    return ids;
  }

  ManualClock clock_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, RegisteringModels) {
  EXPECT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "again", .shape = kShape}).ok());
  ModelSpec other{.fingerprint = "m", .name = "", .shape = kShape};
  other.shape.layers = 3;
  EXPECT_EQ(store_->RegisterModel(other).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(store_->FindModel("m")->name, "M");
  EXPECT_EQ(store_->FindModel("x").status().code(), StatusCode::kNotFound);
  for (const KvShape shape : {KvShape{0, 1, 16}, KvShape{1, 0, 16}, KvShape{1, 1, 0},
                              KvShape{1, 1, 24}, KvShape{1, 64, 1024}}) {
    EXPECT_EQ(store_->RegisterModel({.fingerprint = "bad", .name = "", .shape = shape}).code(),
              StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(store_->Models().size(), 1u);
}

TEST_F(StoreTest, PrefixIsSharedAndOutlivesItsSequence) {
  const auto prompt = Prompt(200);
  const SequenceId first = Open("t", prompt);
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 0u);
  Append("t", first, 200, 5);
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 192u);
  const uint64_t used = store_->Stats().used_bytes;
  ASSERT_TRUE(store_->Close("t", first).ok());
  EXPECT_EQ(store_->Stats().cached_bytes, 3 * 2 * kShape.block_bytes());

  const auto opened = OpenMatched("t", prompt);
  EXPECT_EQ(opened.matched_tokens, 192u);
  EXPECT_EQ(store_->Stat("t", opened.id)->committed_tokens, 192u);
  EXPECT_LT(store_->Stats().used_bytes, used);
  EXPECT_EQ(store_->Stats().cached_bytes, 0u);
  PinnedRows rows;
  ASSERT_TRUE(store_->ResolveRange("t", opened.id, 1, 0, 192, rows).ok());
  for (const std::byte* row : rows.rows()) EXPECT_EQ(*row, std::byte{5});
  EXPECT_EQ(store_->Stats().prefix_hits, 192u);
}

TEST_F(StoreTest, IdsToldLaterPublishToo) {
  const SequenceId id = Open("t");
  Append("t", id, 130, 1);
  const auto prompt = Prompt(130);
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 0u);
  ASSERT_TRUE(store_->ExtendTokenIds("t", id, 0, std::span(prompt).first(100)).ok());
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 64u);
  ASSERT_TRUE(store_->ExtendTokenIds("t", id, 100, std::span(prompt).subspan(100)).ok());
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 128u);
  EXPECT_EQ(store_->ExtendTokenIds("t", id, 100, prompt).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(store_->ExtendTokenIds("t", id, 131, prompt).code(), StatusCode::kFailedPrecondition);
}

TEST_F(StoreTest, PrefixAfterAnEvictedOneIsPublishedWhole) {
  const auto prompt = Prompt(192);
  const SequenceId first = Open("t", prompt);
  const SequenceId second = Open("t", prompt);
  Append("t", first, 64, 1);
  Append("t", second, 64, 2);  // its own blocks; the index keeps the first's
  ASSERT_TRUE(store_->Close("t", first).ok());
  EXPECT_GT(store_->Evict(~uint64_t{0}), 0u);
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 0u);
  Append("t", second, 64, 2);
  EXPECT_EQ(*store_->Lookup("t", "m", prompt), 128u);
}

TEST_F(StoreTest, TenantsDoNotSeeEachOther) {
  const auto prompt = Prompt(64);
  const SequenceId id = Open("t", prompt);
  Append("t", id, 64, 1);
  EXPECT_EQ(OpenMatched("u", prompt).matched_tokens, 0u);
  EXPECT_EQ(*store_->Lookup("u", "m", prompt), 0u);
  const Status unknown = store_->Truncate("t", SequenceId(12345), 0);
  const Status foreign = store_->Truncate("u", id, 0);
  EXPECT_EQ(unknown.code(), StatusCode::kNotFound);
  EXPECT_EQ(foreign.code(), StatusCode::kNotFound);
  PinnedRows rows;
  EXPECT_EQ(store_->ResolveRange("u", id, 0, 0, 1, rows).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->List("u", SequenceId(), 10).size(), 1u);
  EXPECT_EQ(store_->List("", SequenceId(), 10).size(), 2u);
  EXPECT_EQ(store_->List("", SequenceId(), 1).size(), 1u);
  EXPECT_EQ(store_->List("", id, 10).size(), 1u);
}

TEST_F(StoreTest, AppendErrors) {
  const SequenceId id = Open("t");
  EXPECT_EQ(BeginCode(id, 2, 0, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCode(id, 0, 0, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCode(id, 0, 0, 65), StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCode(id, 0, 60, 5), StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCode(id, 0, ~uint64_t{0}, 2), StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCode(id, 0, 1, 1), StatusCode::kFailedPrecondition);
  Append("t", id, 3, 1);
  EXPECT_EQ(BeginCode(id, 0, 2, 1), StatusCode::kAlreadyExists);
  ASSERT_TRUE(store_->Seal("t", id).ok());
  EXPECT_EQ(BeginCode(id, 0, 3, 1), StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Truncate("t", id, 1).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(store_->Seal("t", id).ok());
}

TEST_F(StoreTest, LengthLimit) {
  const auto opened = store_->Open(
      {.tenant = "t", .model = "m", .owner = {}, .token_ids = Prompt(4), .max_tokens = 5});
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(BeginCode(opened->id, 0, 0, 6), StatusCode::kOutOfRange);
  EXPECT_EQ(BeginCode(opened->id, 0, 0, 5), StatusCode::kOk);
  EXPECT_EQ(store_->ExtendTokenIds("t", opened->id, 4, Prompt(2)).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(
      store_
          ->Open(
              {.tenant = "t", .model = "m", .owner = {}, .token_ids = Prompt(6), .max_tokens = 5})
          .status()
          .code(),
      StatusCode::kOutOfRange);
}

TEST_F(StoreTest, ResolveChecksEverythingAndLeavesOutAlone) {
  const SequenceId id = Open("t");
  Append("t", id, 70, 9);
  const std::vector<uint32_t> good{0, 69, 5};
  const std::vector<uint32_t> late{3, 70};
  const std::vector<uint32_t> huge{~uint32_t{0}};
  const RowGroup right{.sequence = id, .layer = 1, .kv_head = 1, .tokens = good};
  PinnedRows out;
  ASSERT_TRUE(store_->Resolve("t", {&right, 1}, out).ok());
  ASSERT_EQ(out.rows().size(), 3u);
  const auto before = std::vector(out.rows().begin(), out.rows().end());
  const auto code = [&](RowGroup wrong) {
    const std::vector<RowGroup> groups{right, wrong};
    const StatusCode result = store_->Resolve("t", groups, out).code();
    EXPECT_EQ(std::vector(out.rows().begin(), out.rows().end()), before);
    return result;
  };
  EXPECT_EQ(code({id, 2, 0, good}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({id, 0, 2, good}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({id, 0, 0, late}), StatusCode::kOutOfRange);
  EXPECT_EQ(code({id, 0, 0, huge}), StatusCode::kOutOfRange);
  EXPECT_EQ(code({SequenceId(99), 0, 0, good}), StatusCode::kNotFound);
  EXPECT_EQ(store_->ResolveRange("t", id, 0, 70, 1, out).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(store_->ResolveRange("t", id, 0, 1, ~uint64_t{0}, out).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(store_->ResolveRange("t", id, 9, 0, 1, out).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(store_->ResolveRange("t", id, 0, 70, 0, out).ok());
  EXPECT_EQ(out.rows().size(), 3u);
}

TEST_F(StoreTest, RowsAndSlotsOutliveTheirSequence) {
  const SequenceId id = Open("t");
  Append("t", id, 64, 3);
  PinnedRows rows;
  ASSERT_TRUE(store_->ResolveRange("t", id, 0, 0, 64, rows).ok());
  auto slot = store_->BeginAppend("t", id, 0, 64, 64);
  ASSERT_TRUE(slot.ok()) << slot.status();
  ASSERT_TRUE(store_->Close("t", id).ok());
  const SequenceId next = Open("t");
  Append("t", next, 640, 4);
  const std::vector<std::byte> late(slot->bytes(), std::byte{8});
  slot->Scatter(late.data());
  EXPECT_EQ(slot->Commit().code(), StatusCode::kNotFound);
  for (const std::byte* row : rows.rows()) EXPECT_EQ(*row, std::byte{3});
}

TEST_F(StoreTest, OwnersTakeTheirUnsealedSequencesWithThem) {
  const SequenceId open = Open("t", {}, 1);
  const SequenceId sealed = Open("t", {}, 1);
  const SequenceId other = Open("t", {}, 2);
  ASSERT_TRUE(store_->Seal("t", sealed).ok());
  auto slot = store_->BeginAppend("t", open, 0, 0, 64);
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(store_->CloseOwned(OwnerId(1)), 1u);
  EXPECT_EQ(slot->Commit().code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->Stat("t", open).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->Stat("t", sealed)->state, SequenceState::kSealed);
  EXPECT_TRUE(store_->Stat("t", other).ok());
  EXPECT_EQ(store_->CloseOwned(OwnerId(1)), 0u);
}

TEST_F(StoreTest, SealRefusesWhileAnAppendIsUnderWay) {
  const SequenceId id = Open("t");
  auto slot = store_->BeginAppend("t", id, 0, 0, 1);
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(store_->Seal("t", id).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(slot->Commit().ok());
  EXPECT_TRUE(store_->Seal("t", id).ok());
}

TEST_F(StoreTest, FullTableAndFullArenaSayWhenToTryAgain) {
  Start(64 << 10, 2);
  const SequenceId id = Open("t");
  Open("t");
  const Status crowded =
      store_->Open({.tenant = "t", .model = "m", .owner = {}, .token_ids = {}}).status();
  EXPECT_EQ(crowded.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(RetryAfter(crowded).has_value());
  EXPECT_EQ(store_->Fork("t", id, 0, OwnerId()).status().code(), StatusCode::kResourceExhausted);
  uint64_t first = 0;
  Status full;
  while (full.ok()) {
    auto slot = store_->BeginAppend("t", id, 0, first, 64);
    full = slot.status();
    if (full.ok()) {
      EXPECT_TRUE(slot->Commit().ok());
    }
    first += 64;
  }
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(RetryAfter(full).has_value());
  EXPECT_EQ(store_->Stats().allocation_failures, 1u);
  ASSERT_TRUE(store_->Close("t", id).ok());
  EXPECT_EQ(store_->Stats().used_bytes, 0u);
}

TEST_F(StoreTest, StatCountsSharedTokensAndIdleTime) {
  const SequenceId id = Open("t", Prompt(10));
  Append("t", id, 100, 1);
  EXPECT_EQ(store_->Stat("t", id)->shared_tokens, 0u);
  const auto fork = store_->Fork("t", id, 100, OwnerId(4));
  ASSERT_TRUE(fork.ok()) << fork.status();
  clock_.Advance(std::chrono::seconds(3));
  const auto info = store_->Stat("t", *fork);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->shared_tokens, 100u);
  EXPECT_EQ(info->known_tokens, 10u);
  EXPECT_EQ(info->owner, OwnerId(4));
  EXPECT_EQ(info->resident_bytes, 4 * kShape.block_bytes());
  EXPECT_DOUBLE_EQ(info->idle_seconds, 3.0);
  EXPECT_EQ(store_->Stats().stored_tokens, 200u);
  EXPECT_EQ(*store_->ShapeOf("t", *fork), kShape);
}

}  // namespace
}  // namespace passband
