// Goal: an embedded service and a server, over shared memory, tcp, gRPC and gRPC with
// mutual TLS, answer alike, byte for byte, and fail alike.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "base/random.h"
#include "base/thread.h"
#include "tests/sdk/service_fixture.h"

namespace passband::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class KvServiceContract : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    RecordProperty("seed", std::to_string(seed_));
    Start({});
  }

  void Start(ServiceSetup setup) {
    service_.Disconnect();
    ASSERT_NO_FATAL_FAILURE(service_.Start(GetParam(), std::move(setup)));
    const Status registered = service_->RegisterModel(model_);
    ASSERT_TRUE(registered.ok()) << registered;
  }

  SequenceId Open(std::vector<uint32_t> token_ids = {}, bool share_prefix = true) {
    const auto opened = service_->Open({.model = model_.fingerprint.text(),
                                        .token_ids = std::move(token_ids),
                                        .share_prefix = share_prefix});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? opened->id : SequenceId();
  }

  // A sequence with `tokens` tokens in every layer.
  SequenceId Filled(ExpectedRows& rows, uint64_t tokens, std::vector<uint32_t> token_ids = {}) {
    const SequenceId id = Open(std::move(token_ids));
    const Status appended = AppendUpTo(*service_, model_, id, rows, tokens, random_);
    EXPECT_TRUE(appended.ok()) << appended;
    return id;
  }

  std::vector<uint32_t> RandomTokens(uint64_t length, size_t count) {
    std::vector<uint32_t> out(count);
    for (uint32_t& token : out) token = static_cast<uint32_t>(random_() % length);
    return out;
  }

  std::vector<uint32_t> RandomText(size_t count) {
    std::vector<uint32_t> out(count);
    for (uint32_t& token : out) token = static_cast<uint32_t>(random_() % 50'000);
    return out;
  }

  StatusCode FetchCode(SequenceId id, uint32_t layer, uint32_t head, std::vector<uint32_t> tokens,
                       uint32_t row_bytes) {
    const FetchGroup group{id, layer, head, tokens};
    return service_->StartFetch({{&group, 1}, row_bytes, {}})->Wait().status().code();
  }

  uint32_t row_bytes() const { return static_cast<uint32_t>(model_.head.row_bytes()); }

  const uint64_t seed_ = RandomU64();
  std::mt19937_64 random_{seed_};
  const ModelInfo model_ = SmallModel();
  ServiceUnderTest service_;
};

#define EXPECT_OK(expression)                 \
  do {                                        \
    const Status expect_ok = (expression);    \
    EXPECT_TRUE(expect_ok.ok()) << expect_ok; \
  } while (false)

void ExpectBytes(PendingRows& pending, const std::vector<std::byte>& want) {
  const auto got = pending.Wait();
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(got->size(), want.size());
  EXPECT_TRUE(std::equal(got->begin(), got->end(), want.begin())) << "other bytes";
}

TEST_P(KvServiceContract, RandomRowsComeBackAsTheyWereAppended) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 777);
  for (int round = 0; round < 20; ++round) {
    const auto layer = static_cast<uint32_t>(random_() % model_.layers);
    const auto head = static_cast<uint32_t>(random_() % model_.kv_heads);
    const auto tokens = RandomTokens(777, 1 + random_() % 500);
    std::vector<std::byte> want;
    for (const uint32_t token : tokens) {
      const auto row = rows.Row(layer, head, token);
      want.insert(want.end(), row.begin(), row.end());
    }
    const FetchGroup group{id, layer, head, tokens};
    ExpectBytes(*service_->StartFetch({{&group, 1}, row_bytes(), {}}), want);
  }
}

TEST_P(KvServiceContract, OneFetchServesSeveralSequencesLayersAndHeads) {
  std::vector<std::unique_ptr<ExpectedRows>> rows;
  std::vector<SequenceId> ids;
  for (const uint64_t tokens : {1, 64, 300}) {
    rows.push_back(std::make_unique<ExpectedRows>(model_, random_()));
    ids.push_back(Filled(*rows.back(), tokens));
  }
  std::vector<std::vector<uint32_t>> tokens;
  std::vector<FetchGroup> groups;
  std::vector<std::byte> want;
  for (int i = 0; i < 40; ++i) {
    const size_t which = random_() % ids.size();
    const auto layer = static_cast<uint32_t>(random_() % model_.layers);
    const auto head = static_cast<uint32_t>(random_() % model_.kv_heads);
    // Groups without tokens are allowed.
    tokens.push_back(RandomTokens(rows[which]->length(layer), random_() % 60));
    groups.push_back({ids[which], layer, head, {}});
    for (const uint32_t token : tokens.back()) {
      const auto row = rows[which]->Row(layer, head, token);
      want.insert(want.end(), row.begin(), row.end());
    }
  }
  for (size_t i = 0; i < groups.size(); ++i) groups[i].tokens = tokens[i];
  ExpectBytes(*service_->StartFetch({groups, row_bytes(), {}}), want);
  EXPECT_EQ(service_->traffic().fetched_bytes, want.size());
}

TEST_P(KvServiceContract, AFetchLargerThanOneReplyIsWhole) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 640);
  // 300,000 rows of 128 bytes: 37 MiB.
  const auto tokens = RandomTokens(640, 300'000);
  std::vector<std::byte> want;
  want.reserve(tokens.size() * row_bytes());
  for (const uint32_t token : tokens) {
    const auto row = rows.Row(1, 1, token);
    want.insert(want.end(), row.begin(), row.end());
  }
  const FetchGroup group{id, 1, 1, tokens};
  ExpectBytes(*service_->StartFetch({{&group, 1}, row_bytes(), {}}), want);
}

TEST_P(KvServiceContract, EmptyRequestsAreAnswered) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 10);
  ExpectBytes(*service_->StartFetch({{}, row_bytes(), {}}), {});
  ExpectBytes(*service_->StartRead({id, 0, 5, 0}), {});
}

TEST_P(KvServiceContract, RangesAreReadInOrder) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 500);
  for (int round = 0; round < 10; ++round) {
    const auto layer = static_cast<uint32_t>(random_() % model_.layers);
    const uint64_t first = random_() % 500;
    const uint64_t count = 1 + random_() % (500 - first);
    ExpectBytes(*service_->StartRead({id, layer, first, count}), rows.Range(layer, first, count));
  }
}

TEST_P(KvServiceContract, ALongRangeComesInWindowsAndIsWhole) {
  Start({.ram_bytes = 256 << 20});
  ExpectedRows rows(model_, random_());
  const SequenceId id = Open();
  // 25 MiB of one layer: more than four windows.
  const uint64_t tokens = 100'003;
  for (uint64_t at = 0; at < tokens;) {
    const auto count = static_cast<uint32_t>(std::min<uint64_t>(64, tokens - at));
    EXPECT_OK(service_->Append({id, 0, at, count, rows.Grow(0, count)}));
    at += count;
  }
  EXPECT_OK(service_->Flush(id));
  ExpectBytes(*service_->StartRead({id, 0, 0, tokens}), rows.Range(0, 0, tokens));
  ExpectBytes(*service_->StartRead({id, 0, 17, tokens - 100}), rows.Range(0, 17, tokens - 100));
  // Given up half-way, it harms nobody.
  service_->StartRead({id, 0, 0, tokens}).reset();
  ExpectBytes(*service_->StartRead({id, 0, 3, 9}), rows.Range(0, 3, 9));
}

TEST_P(KvServiceContract, SlicesAreThoseTheWorkerWouldCut) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 500);
  const auto profile = SmallProfile(random_);
  for (int round = 0; round < 10; ++round) {
    const auto layer = static_cast<uint32_t>(random_() % model_.layers);
    const uint64_t first = random_() % 500;
    const uint64_t count = 1 + random_() % (500 - first);
    ExpectBytes(*service_->StartSlices({id, layer, first, count}, profile),
                rows.Slices(*profile, layer, first, count));
  }
}

TEST_P(KvServiceContract, ASharedPrefixIsFoundAndItsRowsAreThere) {
  const auto text = RandomText(200);
  ExpectedRows rows(model_, random_());
  const SequenceId first = Filled(rows, 200, text);
  const auto found = service_->Lookup(model_.fingerprint.text(), text);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, 192u);
  const auto second = service_->Open({.model = model_.fingerprint.text(), .token_ids = text});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE(second->id, first);
  EXPECT_EQ(second->matched_tokens, 192u);
  ExpectBytes(*service_->StartRead({second->id, 2, 0, 192}), rows.Range(2, 0, 192));
  const auto unshared = service_->Open(
      {.model = model_.fingerprint.text(), .token_ids = text, .share_prefix = false});
  ASSERT_TRUE(unshared.ok()) << unshared.status();
  EXPECT_EQ(unshared->matched_tokens, 0u);
}

TEST_P(KvServiceContract, ExtendMakesAppendedTokensFindable) {
  const auto text = RandomText(128);
  ExpectedRows rows(model_, random_());
  // Several servers place a sequence by its first block: one opened without it lies anywhere.
  const size_t told = GetParam() == Way::kCluster ? 64 : 0;
  const SequenceId id = Filled(rows, 128, {text.begin(), text.begin() + told});
  EXPECT_OK(service_->Extend(id, told, std::span(text).subspan(told)));
  const auto found = service_->Lookup(model_.fingerprint.text(), text);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, 128u);
}

TEST_P(KvServiceContract, AForkSharesItsPastAndGrowsAlone) {
  ExpectedRows rows(model_, random_());
  const uint64_t fork_seed = random_();
  const SequenceId parent = Filled(rows, 100);
  const auto fork = service_->Fork(parent, 70);
  ASSERT_TRUE(fork.ok()) << fork.status();
  ExpectedRows fork_rows = rows;
  fork_rows.Truncate(70);
  std::mt19937_64 other(fork_seed);
  EXPECT_OK(AppendUpTo(*service_, model_, parent, rows, 150, random_));
  EXPECT_OK(AppendUpTo(*service_, model_, *fork, fork_rows, 140, other));
  for (uint32_t layer = 0; layer < model_.layers; ++layer) {
    ExpectBytes(*service_->StartRead({parent, layer, 0, 150}), rows.Range(layer, 0, 150));
    ExpectBytes(*service_->StartRead({*fork, layer, 0, 140}), fork_rows.Range(layer, 0, 140));
  }
}

TEST_P(KvServiceContract, TruncateForgetsAndTheSequenceGoesOn) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 150);
  EXPECT_OK(service_->Truncate(id, 90));
  rows.Truncate(90);
  EXPECT_EQ(FetchCode(id, 0, 0, {90}, row_bytes()), StatusCode::kOutOfRange);
  EXPECT_OK(AppendUpTo(*service_, model_, id, rows, 170, random_));
  ExpectBytes(*service_->StartRead({id, 1, 0, 170}), rows.Range(1, 0, 170));
  const auto stat = service_->Stat(id);
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->committed_tokens, 170u);
}

TEST_P(KvServiceContract, ASealedSequenceIsReadOnly) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 64);
  EXPECT_OK(service_->Seal(id));
  const auto stat = service_->Stat(id);
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_TRUE(stat->sealed);
  ExpectBytes(*service_->StartRead({id, 0, 0, 64}), rows.Range(0, 0, 64));
  Status appended = service_->Append({id, 0, 64, 1, rows.Grow(0, 1)});
  if (appended.ok()) appended = service_->Flush(id);
  EXPECT_EQ(appended.code(), StatusCode::kFailedPrecondition) << appended;
}

TEST_P(KvServiceContract, ListAndStatTellWhatIsThere) {
  ExpectedRows first_rows(model_, random_()), second_rows(model_, random_());
  const SequenceId one = Filled(first_rows, 65);
  const SequenceId other = Filled(second_rows, 3);
  const auto all = service_->List(SequenceId(), 0);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 2u);
  // In the order of ids, which on several servers is not that of opening.
  const SequenceId first = std::min(one, other);
  EXPECT_EQ((*all)[0].id, first);
  EXPECT_EQ((*all)[0].committed_tokens, first == one ? 65u : 3u);
  EXPECT_EQ((*all)[0].model, model_.fingerprint.text());
  EXPECT_EQ((*all)[1].id, std::max(one, other));
  const auto rest = service_->List(first, 10);
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(rest->size(), 1u);
}

TEST_P(KvServiceContract, ErrorsNameWhatIsWrong) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 70);
  EXPECT_EQ(FetchCode(SequenceId(424242), 0, 0, {0}, row_bytes()), StatusCode::kNotFound);
  EXPECT_EQ(FetchCode(id, 0, 0, {3, 70}, row_bytes()), StatusCode::kOutOfRange);
  EXPECT_EQ(FetchCode(id, 3, 0, {0}, row_bytes()), StatusCode::kInvalidArgument);
  EXPECT_EQ(FetchCode(id, 0, 2, {0}, row_bytes()), StatusCode::kInvalidArgument);
  EXPECT_EQ(FetchCode(id, 0, 0, {0}, row_bytes() * 2), StatusCode::kInvalidArgument);
  EXPECT_EQ(FetchCode(id, 0, 0, {0}, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(service_->StartRead({id, 0, 60, 11})->Wait().status().code(), StatusCode::kOutOfRange);
  EXPECT_EQ(service_->StartRead({SequenceId(424242), 0, 0, 1})->Wait().status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(service_->Stat(SequenceId(424242)).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(service_->Open({.model = "no such model"}).status().code(), StatusCode::kNotFound);
  // After all of it, the service is well.
  ExpectBytes(*service_->StartRead({id, 0, 0, 70}), rows.Range(0, 0, 70));
}

TEST_P(KvServiceContract, AppendsThatDoNotFitAreRefused) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 70);
  const auto append = [&](uint32_t layer, uint64_t first, uint32_t count, size_t bytes) {
    const std::vector<std::byte> payload(bytes);
    const Status status = service_->Append({id, layer, first, count, payload});
    return status.ok() ? service_->Flush(id).code() : status.code();
  };
  const size_t token = model_.kv_heads * row_bytes();
  EXPECT_EQ(append(3, 0, 1, token), StatusCode::kInvalidArgument);
  EXPECT_EQ(append(0, 70, 1, token + 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(append(0, 70, 0, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(append(0, 120, 9, 9 * token), StatusCode::kInvalidArgument) << "two blocks";
  EXPECT_OK(service_->Flush(id));
  // A gap poisons the sequence, until it is truncated.
  EXPECT_EQ(append(0, 75, 1, token), StatusCode::kFailedPrecondition);
  EXPECT_EQ(append(0, 70, 1, token), StatusCode::kFailedPrecondition) << "poisoned";
  EXPECT_OK(service_->Truncate(id, 70));
  EXPECT_OK(AppendUpTo(*service_, model_, id, rows, 80, random_));
  ExpectBytes(*service_->StartRead({id, 0, 0, 80}), rows.Range(0, 0, 80));
}

TEST_P(KvServiceContract, AClosedSequenceIsGone) {
  ExpectedRows rows(model_, random_());
  const SequenceId id = Filled(rows, 10);
  EXPECT_OK(service_->Close(id));
  EXPECT_EQ(FetchCode(id, 0, 0, {0}, row_bytes()), StatusCode::kNotFound);
  EXPECT_EQ(service_->Stat(id).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(service_->Close(id).code(), StatusCode::kNotFound);
  Status appended = service_->Append({id, 0, 10, 1, rows.Grow(0, 1)});
  if (appended.ok()) appended = service_->Flush(id);
  EXPECT_EQ(appended.code(), StatusCode::kNotFound) << appended;
}

TEST_P(KvServiceContract, AnotherTenantSeesNothing) {
  ExpectedRows rows(model_, random_());
  const auto text = RandomText(64);
  const SequenceId id = Filled(rows, 64, text);
  auto other = service_.Connect("other");
  ASSERT_TRUE(other.ok()) << other.status();
  const std::vector<uint32_t> tokens{0};
  const FetchGroup group{id, 0, 0, tokens};
  EXPECT_EQ((*other)->StartFetch({{&group, 1}, row_bytes(), {}})->Wait().status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ((*other)->Stat(id).status().code(), StatusCode::kNotFound);
  EXPECT_EQ((*other)->Close(id).code(), StatusCode::kNotFound);
  Status appended = (*other)->Append({id, 0, 64, 1, rows.Grow(0, 1)});
  if (appended.ok()) appended = (*other)->Flush(id);
  EXPECT_EQ(appended.code(), StatusCode::kNotFound);
  const auto listed = (*other)->List(SequenceId(), 0);
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_TRUE(listed->empty());
  const auto found = (*other)->Lookup(model_.fingerprint.text(), text);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, 0u);
}

TEST_P(KvServiceContract, WhatFullRamTurnsAwayIsServedLater) {
  // 4 MiB hold 256 blocks of 16 KiB.
  Start({.ram_bytes = 4 << 20});
  ExpectedRows hog_rows(model_, random_()), rows(model_, random_());
  const SequenceId hog = Open();
  // All but about one block: layer 0 alone.
  uint64_t filled = 0;
  for (; filled < 250 * 64; filled += 64) {
    EXPECT_OK(service_->Append({hog, 0, filled, 64, hog_rows.Grow(0, 64)}));
  }
  EXPECT_OK(service_->Flush(hog));
  const SequenceId id = Open();
  StatusOr<uint64_t> stored = uint64_t{0};
  std::jthread writer = StartThread("writer", [&](std::stop_token) {
    // Eight blocks of each layer, 24 in all: they do not fit.
    Status status = AppendUpTo(*service_, model_, id, rows, 8 * 64, random_);
    stored = status.ok() ? StatusOr<uint64_t>(8 * 64) : status;
  });
  // The writer is stuck when the RAM is full; then there is room again.
  while (true) {
    const auto stat = service_->Stat(id);
    ASSERT_TRUE(stat.ok()) << stat.status();
    const auto all = service_->Stat(hog);
    ASSERT_TRUE(all.ok()) << all.status();
    if (all->resident_bytes + stat->resident_bytes >= (4 << 20)) break;
    std::this_thread::yield();
  }
  EXPECT_OK(service_->Close(hog));
  writer.join();
  ASSERT_TRUE(stored.ok()) << stored.status();
  for (uint32_t layer = 0; layer < model_.layers; ++layer) {
    ExpectBytes(*service_->StartRead({id, layer, 0, 8 * 64}), rows.Range(layer, 0, 8 * 64));
  }
}

TEST_P(KvServiceContract, FullRamIsAnErrorWhenNothingComesFree) {
  RemoteOptions remote;
  remote.append_retry_budget = std::chrono::milliseconds(100);
  Start({.ram_bytes = 4 << 20, .server_flags = {}, .remote = remote});
  ExpectedRows rows(model_, random_());
  const SequenceId id = Open();
  Status status;
  for (uint64_t at = 0; at < 400 * 64 && status.ok(); at += 64) {
    status = service_->Append({id, 0, at, 64, rows.Grow(0, 64)});
  }
  if (status.ok()) status = service_->Flush(id);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(service_->Flush(id).code(), StatusCode::kResourceExhausted);
  // What was stored before is there, and of other sequences' calls nothing is lost.
  ExpectBytes(*service_->StartRead({id, 0, 0, 64}), rows.Range(0, 0, 64));
}

INSTANTIATE_TEST_SUITE_P(Ways, KvServiceContract,
                         ::testing::Values(Way::kEmbedded, Way::kShm, Way::kTcp, Way::kGrpc,
                                           Way::kMtls, Way::kCluster),
                         [](const auto& param) { return WayName(param.param); });

}  // namespace
}  // namespace passband::test
