// Goal: slices from the cache are those that would be encoded now, whatever happened to the
// sequences meanwhile; the cache stays within its bytes, also when many threads use it; a
// second attach reads no row, neither from RAM nor from the disk.
#include "services/server/slice_cache.h"

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "base/units.h"
#include "kernels/slice.h"
#include "kvstore/block_home.h"
#include "kvstore/store.h"
#include "tests/services/server_fixture.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using server::SliceCache;

constexpr uint64_t kTokensOfBlock = 64;
constexpr SliceCache::Recipe kRecipe{.profile = 1, .layer = 0};

// --- the cache alone, over blocks of a home -------------------------------------------------

class SliceCacheTest : public ::testing::Test {
 protected:
  SliceCacheTest() : arena_(*Arena::Create({.bytes = kMiB, .slab_bytes = 64 * kKiB})) {}

  BlockRef Make() {
    BlockRef block = home_.Create(4 * kKiB, 1);
    block->Freeze();
    return block;
  }
  static SliceCache::Slices SlicesOf(uint8_t mark, size_t bytes = 1000) {
    return SliceCache::Slices(bytes, std::byte{mark});
  }

  SliceCache cache_{kMiB};
  std::unique_ptr<Arena> arena_;
  BlockHome home_{*arena_, nullptr, &cache_};
};

TEST_F(SliceCacheTest, FindsWhatWasInsertedByProfileAndLayer) {
  const BlockRef block = Make();
  const BlockRef other = Make();
  EXPECT_EQ(cache_.Find(*block.get(), kRecipe), nullptr);
  cache_.Insert(*block.get(), kRecipe, SlicesOf(1));
  cache_.Insert(*block.get(), {.profile = 2, .layer = 0}, SlicesOf(2));
  EXPECT_EQ(*cache_.Find(*block.get(), kRecipe), SlicesOf(1));
  EXPECT_EQ(*cache_.Find(*block.get(), {.profile = 2, .layer = 0}), SlicesOf(2));
  EXPECT_EQ(cache_.Find(*block.get(), {.profile = 1, .layer = 1}), nullptr);
  EXPECT_EQ(cache_.Find(*other.get(), kRecipe), nullptr);
  EXPECT_EQ(cache_.stats().hits, 2u);
  EXPECT_EQ(cache_.stats().misses, 3u);
}

TEST_F(SliceCacheTest, ABlockThatDiesTakesItsSlicesAlong) {
  BlockRef block = Make();
  cache_.Insert(*block.get(), kRecipe, SlicesOf(1));
  const auto held = cache_.Find(*block.get(), kRecipe);
  const Block* const was = block.get();
  block = {};
  EXPECT_EQ(cache_.stats().bytes, 0u);
  EXPECT_EQ(*held, SlicesOf(1)) << "what was found stays";
  // Its memory is likely to be taken for the next block.
  for (int i = 0; i < 10; ++i) {
    block = Make();
    if (block.get() == was) break;
  }
  EXPECT_EQ(cache_.Find(*block.get(), kRecipe), nullptr);
}

TEST_F(SliceCacheTest, ABlockThatIsWrittenOnLosesItsSlices) {
  const BlockRef block = Make();
  cache_.Insert(*block.get(), kRecipe, SlicesOf(1));
  ASSERT_TRUE(block->TakeForWriting());
  EXPECT_EQ(cache_.Find(*block.get(), kRecipe), nullptr);
  block->Freeze();
  cache_.Insert(*block.get(), kRecipe, SlicesOf(2));
  EXPECT_EQ(*cache_.Find(*block.get(), kRecipe), SlicesOf(2));
  ASSERT_TRUE(block->TakeForWriting());
  EXPECT_EQ(cache_.Find(*block.get(), kRecipe), nullptr) << "watched again";
}

TEST_F(SliceCacheTest, StaysWithinItsBytesAndLetsTheOldestGo) {
  std::vector<BlockRef> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(Make());
  for (uint64_t profile = 1; profile <= 200; ++profile) {
    for (const BlockRef& block : blocks) {
      cache_.Insert(*block.get(), {.profile = profile, .layer = 0}, SlicesOf(1));
    }
    ASSERT_LE(cache_.stats().bytes, cache_.stats().capacity_bytes);
  }
  EXPECT_GT(cache_.stats().evictions, 0u);
  for (const BlockRef& block : blocks) {
    EXPECT_NE(cache_.Find(*block.get(), {.profile = 200, .layer = 0}), nullptr);
    EXPECT_EQ(cache_.Find(*block.get(), {.profile = 1, .layer = 0}), nullptr);
  }
  blocks.clear();
  EXPECT_EQ(cache_.stats().bytes, 0u);
}

TEST_F(SliceCacheTest, OfNoBytesKeepsNothing) {
  SliceCache none(0);
  const BlockRef block = Make();
  none.Insert(*block.get(), kRecipe, SlicesOf(1));
  EXPECT_EQ(none.Find(*block.get(), kRecipe), nullptr);
  EXPECT_EQ(none.stats().bytes, 0u);
}

TEST_F(SliceCacheTest, ThreadsFindOnlyWhatBelongsToTheBlock) {
  std::atomic<uint64_t> found{0};
  const auto work = [&](uint8_t mark) {
    for (int round = 0; round < 2000; ++round) {
      const BlockRef block = Make();
      PlaneSet planes = 0;
      ASSERT_TRUE(block->TryPin(planes));
      const Pin pin(block.get());
      ASSERT_EQ(cache_.Find(*block.get(), kRecipe), nullptr) << "another block's";
      cache_.Insert(*block.get(), kRecipe, SlicesOf(mark));
      const auto slices = cache_.Find(*block.get(), kRecipe);
      if (slices == nullptr) continue;
      ASSERT_EQ(*slices, SlicesOf(mark));
      found.fetch_add(1);
    }
  };
  std::vector<std::jthread> threads;
  for (uint8_t mark = 1; mark <= 4; ++mark) threads.emplace_back(work, mark);
  threads.clear();
  EXPECT_GT(found.load(), 4000u);
  EXPECT_EQ(cache_.stats().bytes, 0u);
}

// --- in a server ----------------------------------------------------------------------------

class CachedSlicesTest : public ServerTest {
 protected:
  void SetUp() override { Begin(kMiB); }
  void TearDown() override {
    client_.reset();
    server_.reset();  // before its folder goes
  }
  void Begin(uint64_t cache_bytes) {
    client_.reset();
    server::Settings settings = SmallSettings();
    settings.spill_dir = folder_.path();
    settings.spill_limit_bytes = 256 * kMiB;
    settings.slice_cache_bytes = cache_bytes;
    Start(settings);
    client_ = Client();
    ASSERT_TRUE(client_->Hello().ok());
    (void)Open(*client_);  // registers the model
    v1::RegisterProfileRequest request;
    request.set_profile_json(TestProfile()->ToJson());
    v1::RegisterProfileResponse registered;
    const grpc::Status status =
        client_->stub().RegisterProfile(client_->Context().get(), request, &registered);
    ASSERT_TRUE(status.ok()) << status.error_message();
    profile_ = registered.profile_id();
  }
  Status Append(uint64_t sequence, uint32_t layer, uint64_t first, uint32_t count,
                const Bytes& rows) {
    Status status;
    for (int tries = 0; tries < 500; ++tries) {
      status = client_
                   ->Append(sequence, static_cast<uint16_t>(layer), first, count, kKvHeads,
                            kRowBytes, rows)
                   .status;
      if (status.code() != StatusCode::kResourceExhausted) break;
      std::this_thread::sleep_for(RetryAfter(status).value_or(std::chrono::milliseconds(5)));
    }
    return status;
  }
  void Truncate(uint64_t sequence, uint64_t tokens) {
    v1::TruncateSequenceRequest request;
    request.set_sequence(sequence);
    request.set_tokens(tokens);
    v1::TruncateSequenceResponse response;
    const grpc::Status status =
        client_->stub().TruncateSequence(client_->Context().get(), request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  uint64_t Fork(uint64_t sequence, uint64_t tokens) {
    v1::ForkSequenceRequest request;
    request.set_sequence(sequence);
    request.set_tokens(tokens);
    v1::ForkSequenceResponse response;
    const grpc::Status status =
        client_->stub().ForkSequence(client_->Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.sequence();
  }
  void Close(uint64_t sequence) {
    v1::CloseSequenceRequest request;
    request.set_sequence(sequence);
    v1::CloseSequenceResponse response;
    const grpc::Status status =
        client_->stub().CloseSequence(client_->Context().get(), request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  // Of rows [kv_head][count], encoded here.
  static Bytes Encode(uint32_t layer, const Bytes& rows, uint64_t count) {
    const auto profile = TestProfile();
    Bytes out(kKvHeads * count * profile->slice_bytes());
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      kernels::EncodeSlices(*profile->spec(layer, head), rows.data() + head * count * kRowBytes,
                            kRowBytes, count, out.data() + head * count * profile->slice_bytes());
    }
    return out;
  }
  // The slices that the server sends are those of the rows that it sends.
  void Compare(uint64_t sequence, uint32_t layer, uint64_t first, uint32_t count) {
    const RawReply rows = client_->Read(sequence, static_cast<uint16_t>(layer), first, count);
    ASSERT_TRUE(rows.status.ok()) << rows.status;
    const RawReply slices =
        client_->Slices(sequence, profile_, static_cast<uint16_t>(layer), first, count);
    ASSERT_TRUE(slices.status.ok()) << slices.status;
    ASSERT_EQ(slices.payload, Encode(layer, rows.payload, count))
        << "sequence " << sequence << " layer " << layer << " tokens " << first << " + " << count;
  }
  double Cache(const std::string& what) { return Metric(*server_, "passband_slice_cache_" + what); }

  const test::TempFolder folder_;
  std::unique_ptr<RawClient> client_;
  uint64_t profile_ = 0;
};

// Opens, appends, truncates, forks, closes and compares at random.
class RandomSlicesTest : public CachedSlicesTest {
 protected:
  void Step() {
    const uint64_t what = live_.empty() ? 0 : Below(12);
    if (what == 0 && live_.size() < 12) {
      live_[Open(*client_)] = 0;
      return;
    }
    if (live_.empty()) return;
    auto at = std::next(live_.begin(), static_cast<long>(Below(live_.size())));
    auto& [id, tokens] = *at;
    if (what <= 4) return Grow(id, tokens);
    if (what == 5) {
      const uint64_t kept = Below(tokens + 1);
      Truncate(id, kept);
      tokens = kept;
    } else if (what == 6 && live_.size() < 12) {
      const uint64_t shared = Below(tokens + 1);
      live_[Fork(id, shared)] = shared;
    } else if (what == 7 && live_.size() > 6) {
      Close(id);
      live_.erase(at);
    } else if (tokens > 0) {
      const uint64_t first = Below(2) == 0 ? 0 : Below(tokens);
      const uint64_t left = tokens - first;
      const uint64_t count = Below(2) == 0 ? left : 1 + Below(left);
      Compare(id, static_cast<uint32_t>(Below(kLayers)), first, static_cast<uint32_t>(count));
    }
  }
  void Grow(uint64_t id, uint64_t& tokens) {
    const uint64_t room = kTokensOfBlock - tokens % kTokensOfBlock;
    const auto count = static_cast<uint32_t>(Below(2) == 0 ? room : 1 + Below(room));
    ++salt_;  // content that never comes again, though its place does
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const Status appended =
          Append(id, layer, tokens, count, TestRows(salt_ * 1000, layer, tokens, count));
      ASSERT_TRUE(appended.ok()) << appended;
    }
    tokens += count;
  }
  uint64_t Below(uint64_t end) { return random_() % end; }

  std::mt19937_64 random_{1};
  std::map<uint64_t, uint64_t> live_;  // tokens by id
  uint64_t salt_ = 0;
};

TEST_F(RandomSlicesTest, NeverAreOthersThanThoseOfTheRows) {
  for (const uint64_t cache_bytes : {uint64_t{64} * kKiB, uint64_t{4} * kMiB}) {
    Begin(cache_bytes);
    live_.clear();
    const uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    random_.seed(seed);
    for (int step = 0; step < 2500; ++step) {
      Step();
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(Cache("hits_total"), 0);
    EXPECT_LE(Cache("bytes"), static_cast<double>(cache_bytes));
  }
}

TEST_F(CachedSlicesTest, TheSecondAttachOfASpilledPrefixReadsNoRow) {
  constexpr uint64_t kTokens = 4096;
  const uint64_t sequence = Open(*client_);
  const auto fill = [&](uint64_t id) {
    for (uint64_t first = 0; first < kTokens; first += kTokensOfBlock) {
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        ASSERT_TRUE(
            Append(id, layer, first, kTokensOfBlock, TestRows(id, layer, first, kTokensOfBlock))
                .ok());
      }
    }
  };
  const auto attach = [&](Bytes& slices) {
    for (uint16_t layer = 0; layer < kLayers; ++layer) {
      const RawReply reply = client_->Slices(sequence, profile_, layer, 0, kTokens);
      ASSERT_TRUE(reply.status.ok()) << reply.status;
      slices.insert(slices.end(), reply.payload.begin(), reply.payload.end());
    }
  };
  fill(sequence);
  Bytes cold;
  attach(cold);
  // Others take all of RAM, several times.
  for (int i = 0; i < 8; ++i) fill(Open(*client_));
  ASSERT_GT(server_->store().Stats().spilled_bytes, 0u);
  const StoreStats before = server_->store().Stats();
  Bytes warm;
  attach(warm);
  EXPECT_TRUE(warm == cold);
  const StoreStats after = server_->store().Stats();
  EXPECT_EQ(after.restored_planes, before.restored_planes) << "no row is read from the disk";
  EXPECT_EQ(after.ram_hits, before.ram_hits) << "nor in RAM";
  EXPECT_EQ(Cache("hits_total"), kLayers * kTokens / kTokensOfBlock);
}

TEST_F(CachedSlicesTest, WithoutACacheSlicesAreTheSame) {
  Begin(0);
  const uint64_t sequence = Open(*client_);
  ASSERT_TRUE(Fill(*client_, sequence, 0, 200).ok());
  for (int twice = 0; twice < 2; ++twice) {
    Compare(sequence, 1, 10, 180);
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(Cache("bytes"), 0);
  EXPECT_EQ(Cache("hits_total"), 0);
}

}  // namespace
}  // namespace passband::testing
