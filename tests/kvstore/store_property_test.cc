// Goal: a million random operations, with memory short all the time, leave the
// store in agreement with a reference that shares nothing: every row it shows has
// the bytes that were written, every error is the one its contract names, and at
// the end no memory is lost. The same over a tier and a catalog, with a crash now and then:
// what was sealed is back, whatever was in RAM; and so are prefixes of what is closed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/memory_catalog.h"
#include "tests/kvstore/memory_tier.h"
#include "tests/kvstore/reference_store.h"

namespace passband {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kOperations = 100'000;
constexpr uint64_t kTierOperations = 10'000;
#else
constexpr uint64_t kOperations = 1'200'000;
constexpr uint64_t kTierOperations = 100'000;
#endif

constexpr KvShape kShapes[] = {
    {.layers = 2, .kv_heads = 1, .row_bytes = 16},
    {.layers = 3, .kv_heads = 2, .row_bytes = 32},
    {.layers = 1, .kv_heads = 3, .row_bytes = 64},
    {.layers = 4, .kv_heads = 1, .row_bytes = 48},
};

struct OpenSlot {
  std::shared_ptr<ReferenceSequence> sequence;
  uint32_t layer = 0;
  uint64_t number = 0;
  uint64_t first = 0;
  uint32_t count = 0;
  Store::AppendSlot slot;
};

// Rows held across other operations, and what they have to go on saying.
struct Held {
  PinnedRows rows;
  std::vector<Bytes> expected;
};

class StoreProperty : public testing::Test {
 protected:
  void Run(uint64_t seed, uint64_t operations);
  void RunOverTier(uint64_t seed, uint64_t operations);
  void Prepare(uint64_t seed, const Store::Options& options);
  void Operate(uint64_t operations);

  uint64_t Pick(uint64_t below) { return below == 0 ? 0 : random_() % below; }
  bool Chance(uint64_t percent) { return Pick(100) < percent; }

  // Null when there is none.
  std::shared_ptr<ReferenceSequence> PickSequence() {
    return sequences_.empty() ? nullptr : sequences_[Pick(sequences_.size())];
  }
  Bytes RandomRows(uint64_t size) {
    Bytes rows(size);
    for (uint64_t at = 0; at < size; at += 8) {
      const uint64_t word = random_();
      std::memcpy(rows.data() + at, &word, 8);
    }
    return rows;
  }
  // Few prompts, so that many sequences begin alike.
  uint32_t TokenId(uint32_t prompt, uint64_t position) {
    return position < 128 ? static_cast<uint32_t>(position) : prompt * 1000 + position / 100;
  }

  void Step();
  void Open();
  void Begin();
  void FinishSlot();
  void Fork();
  void Truncate();
  void Seal();
  void Close();
  void Extend();
  void Lookup();
  void Resolve();
  void ResolveRange();
  void CheckHeld();
  void CloseOwned();
  void Stat();
  void Finish();
  // Only what is sealed survives.
  void CrashAndRestart();
  Store::Options TierOptions();

  void NoteColumns(const ReferenceSequence& sequence);
  void AdoptPrefix(ReferenceSequence& sequence, uint64_t tokens);
  void Hold(PinnedRows rows, std::vector<Bytes> expected);
  void CheckExhausted(const Status& status);
  void Forget(const ReferenceSequence& sequence);

  std::mt19937_64 random_;
  std::optional<MemoryTier> tier_;
  MemoryCatalog catalog_;
  std::unique_ptr<Store> store_;
  std::vector<ModelSpec> models_;
  std::vector<std::shared_ptr<ReferenceSequence>> sequences_;
  std::vector<OpenSlot> slots_;
  std::vector<Held> held_;
  uint64_t next_slot_ = 0;
  // What each prefix was ever seen to hold in its last column.
  std::map<uint64_t, std::set<uint64_t>> contents_;
  uint64_t exhausted_ = 0;
  uint64_t matched_ = 0;
  uint64_t aborted_ = 0;
};

StatusCode CodeOf(const Status& status) { return status.code(); }

void StoreProperty::CheckExhausted(const Status& status) {
  ASSERT_EQ(CodeOf(status), StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(RetryAfter(status).has_value());
  if (!tier_) {
    EXPECT_EQ(store_->Stats().cached_bytes, 0u) << "failed with memory still to be had";
  }
  ++exhausted_;
}

void StoreProperty::NoteColumns(const ReferenceSequence& sequence) {
  for (uint64_t c = 0; c < sequence.complete_columns(); ++c) {
    contents_[sequence.ColumnName(c)].insert(sequence.ColumnContent(c));
  }
}

void StoreProperty::AdoptPrefix(ReferenceSequence& sequence, uint64_t tokens) {
  const KvShape& shape = sequence.model.shape;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    PinnedRows rows;
    Status status;
    for (int tries = 0; tries < 20; ++tries) {
      status = store_->ResolveRange(sequence.tenant, sequence.id, layer, 0, tokens, rows);
      if (!tier_ || CodeOf(status) != StatusCode::kResourceExhausted) break;
      held_.clear();
      Close();
    }
    ASSERT_TRUE(status.ok()) << status;
    for (uint64_t t = 0; t < tokens; ++t) {
      Bytes token;
      for (uint32_t head = 0; head < shape.kv_heads; ++head) {
        const std::byte* row = rows.rows()[head * tokens + t];
        token.insert(token.end(), row, row + shape.row_bytes);
      }
      sequence.layers[layer].tokens.push_back(std::move(token));
    }
  }
  for (uint64_t c = 0; c < tokens / kBlockTokens; ++c) {
    ASSERT_TRUE(contents_[sequence.ColumnName(c)].contains(sequence.ColumnContent(c)))
        << "column " << c << " holds what no sequence of these tokens wrote";
  }
  matched_ += tokens;
}

void StoreProperty::Open() {
  if (sequences_.size() >= 24) return Close();
  auto sequence = std::make_shared<ReferenceSequence>();
  sequence->tenant = Chance(70) ? "ann" : "bob";
  sequence->model = models_[Pick(models_.size())];
  sequence->owner = OwnerId(1 + Pick(4));
  sequence->max_tokens = Chance(20) ? 1 + Pick(300) : 0;
  sequence->layers.resize(sequence->model.shape.layers);
  const uint32_t prompt = static_cast<uint32_t>(Pick(4));
  const uint64_t length = Chance(20) ? 0 : Pick(320);
  for (uint64_t i = 0; i < length; ++i) sequence->token_ids.push_back(TokenId(prompt, i));
  const bool share = Chance(85);
  const auto opened = store_->Open({.tenant = sequence->tenant,
                                    .model = sequence->model.fingerprint,
                                    .owner = sequence->owner,
                                    .token_ids = sequence->token_ids,
                                    .share_prefix = share,
                                    .max_tokens = sequence->max_tokens});
  if (sequence->max_tokens != 0 && length > sequence->max_tokens) {
    EXPECT_EQ(CodeOf(opened.status()), StatusCode::kOutOfRange);
    return;
  }
  ASSERT_TRUE(opened.ok()) << opened.status();
  sequence->id = opened->id;
  ASSERT_EQ(opened->matched_tokens % kBlockTokens, 0u);
  ASSERT_LE(opened->matched_tokens, share ? length : 0);
  AdoptPrefix(*sequence, opened->matched_tokens);
  sequences_.push_back(sequence);
}

void StoreProperty::Begin() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return Open();
  const KvShape& shape = sequence->model.shape;
  const uint32_t layer = static_cast<uint32_t>(Pick(shape.layers + (Chance(1) ? 2 : 0)));
  const uint64_t reserved = layer < shape.layers ? sequence->layers[layer].reserved() : 0;
  uint64_t first = reserved;
  if (Chance(3)) first = Pick(reserved + 100);
  uint32_t count = static_cast<uint32_t>(kBlockTokens - first % kBlockTokens);
  if (Chance(60)) count = static_cast<uint32_t>(1 + Pick(count));
  if (Chance(2)) count = static_cast<uint32_t>(Pick(140));
  auto slot = store_->BeginAppend(sequence->tenant, sequence->id, layer, first, count);

  StatusCode expected = StatusCode::kOk;
  if (layer >= shape.layers || count == 0 || first % kBlockTokens + count > kBlockTokens) {
    expected = StatusCode::kInvalidArgument;
  } else if (sequence->sealed) {
    expected = StatusCode::kFailedPrecondition;
  } else if (first != reserved) {
    expected = first < reserved ? StatusCode::kAlreadyExists : StatusCode::kFailedPrecondition;
  } else if (sequence->max_tokens != 0 && first + count > sequence->max_tokens) {
    expected = StatusCode::kOutOfRange;
  }
  if (expected == StatusCode::kOk && !slot.ok()) {
    CheckExhausted(slot.status());
    return Chance(50) ? Close() : void();
  }
  ASSERT_EQ(CodeOf(slot.status()), expected) << slot.status();
  if (!slot.ok()) return;
  EXPECT_EQ(slot->covers_block(), count == kBlockTokens);
  EXPECT_EQ(slot->bytes(), uint64_t{count} * shape.kv_heads * shape.row_bytes);
  const uint64_t number = next_slot_++;
  sequence->layers[layer].slots.push_back({.number = number, .first = first, .count = count});
  slots_.push_back({.sequence = sequence,
                    .layer = layer,
                    .number = number,
                    .first = first,
                    .count = count,
                    .slot = *std::move(slot)});
  if (slots_.size() > 12 || Chance(60)) FinishSlot();
}

// Writes and commits, or gives up, one of the slots: any of them, in any order,
// those that are void included.
void StoreProperty::FinishSlot() {
  if (slots_.empty()) return;
  const size_t pick = Pick(slots_.size());
  OpenSlot open = std::move(slots_[pick]);
  slots_.erase(slots_.begin() + static_cast<ptrdiff_t>(pick));
  const Bytes rows = RandomRows(open.slot.bytes());
  ReferenceSequence& sequence = *open.sequence;
  ReferenceLayer& layer = sequence.layers[open.layer];
  if (Chance(5)) {
    if (Chance(50)) open.slot.Scatter(rows.data());
    layer.Abort(open.number);
    return;
  }
  if (open.slot.covers_block() && Chance(50)) {
    std::memcpy(open.slot.block(), rows.data(), rows.size());
  } else {
    open.slot.Scatter(rows.data());
  }
  const Status status = open.slot.Commit();
  ReferenceSlot* known = layer.Find(open.number);
  if (sequence.closed) {
    ASSERT_EQ(CodeOf(status), StatusCode::kNotFound) << status;
  } else if (known == nullptr) {
    ASSERT_EQ(CodeOf(status), StatusCode::kAborted) << status;
    ++aborted_;
  } else {
    ASSERT_TRUE(status.ok()) << status;
    known->committed = true;
    known->rows = rows;
    const uint64_t before = sequence.complete_columns();
    layer.Publish(sequence.model.shape);
    if (sequence.complete_columns() != before) NoteColumns(sequence);
  }
}

void StoreProperty::Fork() {
  const auto parent = PickSequence();
  if (parent == nullptr || sequences_.size() >= 24) return Close();
  const uint64_t committed = parent->committed();
  const uint64_t tokens =
      Chance(3) ? committed + 1 + Pick(3) : (Chance(30) ? committed : Pick(committed + 1));
  const OwnerId owner(1 + Pick(4));
  const auto id = store_->Fork(parent->tenant, parent->id, tokens, owner);
  if (tokens > committed) {
    ASSERT_EQ(CodeOf(id.status()), StatusCode::kOutOfRange) << id.status();
    return;
  }
  ASSERT_TRUE(id.ok()) << id.status();
  auto fork = std::make_shared<ReferenceSequence>(*parent);
  fork->id = *id;
  fork->owner = owner;
  fork->sealed = false;
  fork->Truncate(tokens);
  sequences_.push_back(std::move(fork));
}

void StoreProperty::Truncate() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  const uint64_t committed = sequence->committed();
  uint64_t tokens =
      Chance(50) ? Pick(committed + 1) : committed - Pick(std::min<uint64_t>(committed, 20) + 1);
  if (Chance(3)) tokens = committed + 1 + Pick(3);
  const Status status = store_->Truncate(sequence->tenant, sequence->id, tokens);
  const StatusCode expected = sequence->sealed     ? StatusCode::kFailedPrecondition
                              : tokens > committed ? StatusCode::kOutOfRange
                                                   : StatusCode::kOk;
  ASSERT_EQ(CodeOf(status), expected) << status;
  if (status.ok()) sequence->Truncate(tokens);
}

void StoreProperty::Seal() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  const Status status = store_->Seal(sequence->tenant, sequence->id);
  ASSERT_EQ(CodeOf(status),
            sequence->appending() ? StatusCode::kFailedPrecondition : StatusCode::kOk)
      << status;
  if (status.ok()) sequence->sealed = true;
}

void StoreProperty::Forget(const ReferenceSequence& sequence) {
  std::erase_if(sequences_, [&](const auto& other) { return other->id == sequence.id; });
}

void StoreProperty::Close() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  if (Chance(5)) {
    const std::string other = sequence->tenant == "ann" ? "bob" : "ann";
    ASSERT_EQ(CodeOf(store_->Close(other, sequence->id)), StatusCode::kNotFound);
  }
  ASSERT_TRUE(store_->Close(sequence->tenant, sequence->id).ok());
  ASSERT_EQ(CodeOf(store_->Close(sequence->tenant, sequence->id)), StatusCode::kNotFound);
  sequence->closed = true;
  Forget(*sequence);
}

void StoreProperty::CloseOwned() {
  const OwnerId owner(1 + Pick(4));
  uint64_t expected = 0;
  for (const auto& sequence : std::vector(sequences_)) {
    if (sequence->owner != owner || sequence->sealed) continue;
    ++expected;
    sequence->closed = true;
    Forget(*sequence);
  }
  ASSERT_EQ(store_->CloseOwned(owner), expected);
}

void StoreProperty::Extend() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  const uint64_t known = sequence->token_ids.size();
  const uint64_t first = Chance(3) ? Pick(known + 10) : known;
  std::vector<uint32_t> ids;
  const uint32_t prompt = static_cast<uint32_t>(Pick(3));
  for (uint64_t i = Pick(100); i > 0; --i) ids.push_back(TokenId(prompt, first + ids.size()));
  const Status status = store_->ExtendTokenIds(sequence->tenant, sequence->id, first, ids);
  StatusCode expected = StatusCode::kOk;
  if (sequence->sealed) {
    expected = StatusCode::kFailedPrecondition;
  } else if (first != known) {
    expected = first < known ? StatusCode::kAlreadyExists : StatusCode::kFailedPrecondition;
  } else if (sequence->max_tokens != 0 && known + ids.size() > sequence->max_tokens) {
    expected = StatusCode::kOutOfRange;
  }
  ASSERT_EQ(CodeOf(status), expected) << status;
  if (!status.ok()) return;
  sequence->token_ids.insert(sequence->token_ids.end(), ids.begin(), ids.end());
  NoteColumns(*sequence);
}

void StoreProperty::Lookup() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  const auto found =
      store_->Lookup(sequence->tenant, sequence->model.fingerprint, sequence->token_ids);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(*found % kBlockTokens, 0u);
  for (uint64_t c = 0; c < *found / kBlockTokens; ++c) {
    ASSERT_TRUE(contents_.contains(sequence->ColumnName(c)));
  }
}

void StoreProperty::Hold(PinnedRows rows, std::vector<Bytes> expected) {
  ASSERT_EQ(rows.rows().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(std::memcmp(rows.rows()[i], expected[i].data(), expected[i].size()), 0) << i;
  }
  if (!Chance(10)) return;
  if (held_.size() >= 6) held_.erase(held_.begin() + static_cast<ptrdiff_t>(Pick(held_.size())));
  held_.push_back({std::move(rows), std::move(expected)});
}

void StoreProperty::CheckHeld() {
  for (const Held& held : held_) {
    for (size_t i = 0; i < held.expected.size(); ++i) {
      ASSERT_EQ(std::memcmp(held.rows.rows()[i], held.expected[i].data(), held.expected[i].size()),
                0)
          << "a pinned row changed";
    }
  }
  if (!held_.empty() && Chance(50)) held_.pop_back();
}

void StoreProperty::Resolve() {
  if (sequences_.empty()) return;
  const std::string tenant = PickSequence()->tenant;
  std::vector<std::vector<uint32_t>> tokens(1 + Pick(5));
  std::vector<RowGroup> groups;
  std::vector<Bytes> expected;
  StatusCode code = StatusCode::kOk;
  auto sequence = PickSequence();
  for (auto& list : tokens) {
    if (Chance(30)) sequence = PickSequence();
    const KvShape& shape = sequence->model.shape;
    const uint32_t layer = static_cast<uint32_t>(Pick(shape.layers + (Chance(1) ? 1 : 0)));
    const uint32_t head = static_cast<uint32_t>(Pick(shape.kv_heads + (Chance(1) ? 1 : 0)));
    const bool shaped = layer < shape.layers && head < shape.kv_heads;
    const uint64_t length = shaped ? sequence->layers[layer].tokens.size() : 10;
    for (uint64_t i = length == 0 ? 0 : Pick(30); i > 0; --i) {
      list.push_back(static_cast<uint32_t>(Pick(length)));
    }
    if (Chance(1)) list.push_back(static_cast<uint32_t>(length + Pick(200)));
    groups.push_back({.sequence = sequence->id, .layer = layer, .kv_head = head, .tokens = list});
    if (code != StatusCode::kOk) continue;
    if (sequence->tenant != tenant) {
      code = StatusCode::kNotFound;
    } else if (!shaped) {
      code = StatusCode::kInvalidArgument;
    } else if (std::any_of(list.begin(), list.end(), [&](uint32_t t) { return t >= length; })) {
      code = StatusCode::kOutOfRange;
    } else {
      for (const uint32_t t : list) {
        const auto row = sequence->Row(layer, head, t);
        expected.emplace_back(row.begin(), row.end());
      }
    }
  }
  // A run of groups is checked once its sequence was found: an unknown sequence
  // after it is not looked at first.
  PinnedRows rows;
  const Status status = store_->Resolve(tenant, groups, rows);
  if (tier_ && CodeOf(status) == StatusCode::kResourceExhausted) return held_.clear();
  ASSERT_EQ(CodeOf(status), code) << status;
  if (!status.ok()) {
    EXPECT_TRUE(rows.rows().empty());
    return;
  }
  Hold(std::move(rows), std::move(expected));
}

void StoreProperty::ResolveRange() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  const KvShape& shape = sequence->model.shape;
  const uint32_t layer = static_cast<uint32_t>(Pick(shape.layers));
  const uint64_t length = sequence->layers[layer].tokens.size();
  const uint64_t first = Pick(length + 1);
  uint64_t count = Pick(std::min<uint64_t>(length - first, 150) + 1);
  if (Chance(3)) count = length - first + 1 + Pick(70);
  PinnedRows rows;
  const Status status =
      store_->ResolveRange(sequence->tenant, sequence->id, layer, first, count, rows);
  if (first + count > length) {
    ASSERT_EQ(CodeOf(status), StatusCode::kOutOfRange) << status;
    EXPECT_TRUE(rows.rows().empty());
    return;
  }
  if (tier_ && CodeOf(status) == StatusCode::kResourceExhausted) return held_.clear();
  ASSERT_TRUE(status.ok()) << status;
  std::vector<Bytes> expected;
  for (uint32_t head = 0; head < shape.kv_heads; ++head) {
    for (uint64_t t = first; t < first + count; ++t) {
      const auto row = sequence->Row(layer, head, t);
      expected.emplace_back(row.begin(), row.end());
    }
  }
  Hold(std::move(rows), std::move(expected));
}

void StoreProperty::Stat() {
  const auto sequence = PickSequence();
  if (sequence == nullptr) return;
  const auto info = store_->Stat(sequence->tenant, sequence->id);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->committed_tokens, sequence->committed());
  EXPECT_EQ(info->known_tokens, sequence->token_ids.size());
  EXPECT_EQ(info->state == SequenceState::kSealed, sequence->sealed);
  const StoreStats stats = store_->Stats();
  EXPECT_LE(stats.cached_bytes, stats.used_bytes);
  EXPECT_LE(stats.used_bytes, stats.capacity_bytes);
  EXPECT_EQ(stats.sequences_open + stats.sequences_sealed, sequences_.size());
  ASSERT_EQ(store_->List("", SequenceId(), 1000).size(), sequences_.size());
}

void StoreProperty::Step() {
  const uint64_t roll = Pick(1000);
  if (roll < 60) return Open();
  if (roll < 460) return Begin();
  if (roll < 560) return FinishSlot();
  if (roll < 600) return Fork();
  if (roll < 630) return Truncate();
  if (roll < 640) return Seal();
  if (roll < 670) return Close();
  if (roll < 730) return Extend();
  if (roll < 750) return Lookup();
  if (roll < 880) return Resolve();
  if (roll < 950) return ResolveRange();
  if (roll < 980) return CheckHeld();
  if (roll < 985) return CloseOwned();
  if (roll < 987) return static_cast<void>(store_->Evict(Pick(50'000)));
  Stat();
}

void StoreProperty::Finish() {
  CheckHeld();
  held_.clear();
  slots_.clear();
  while (!sequences_.empty()) Close();
  EXPECT_EQ(store_->Stats().cached_bytes, store_->Stats().used_bytes);
  store_->Evict(~uint64_t{0});
  const StoreStats stats = store_->Stats();
  EXPECT_EQ(stats.used_bytes, 0u);
  EXPECT_EQ(stats.cached_bytes, 0u);
  EXPECT_EQ(stats.prefix_blocks, 0u);
}

void StoreProperty::CrashAndRestart() {
  held_.clear();
  slots_.clear();
  catalog_.Freeze(store_->Stats().seals_pending == 0);
  store_.reset();
  catalog_.Freeze(false);
  tier_->Crash();
  auto store = Store::Create(TierOptions());
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
  for (const ModelSpec& model : models_) ASSERT_TRUE(store_->RegisterModel(model).ok());
  std::erase_if(sequences_, [](const auto& sequence) {
    sequence->closed = !sequence->sealed;
    return sequence->closed;
  });
  for (const auto& sequence : sequences_) {
    const uint64_t committed = sequence->committed();
    for (ReferenceLayer& layer : sequence->layers) layer.tokens.resize(committed);
  }
  const StoreStats stats = store_->Stats();
  ASSERT_EQ(stats.restored_sequences, sequences_.size());
  ASSERT_EQ(stats.left_out_sequences + stats.damaged_records, 0u);
  ASSERT_EQ(stats.used_bytes, 0u);
}

Store::Options StoreProperty::TierOptions() {
  return {.arena = {.bytes = 384 << 10, .slab_bytes = 16 << 10},
          .tier = &*tier_,
          .catalog = &catalog_,
          .low_watermark = 0.3,
          .high_watermark = 0.6};
}

void StoreProperty::RunOverTier(uint64_t seed, uint64_t operations) {
  SCOPED_TRACE("PASSBAND_TEST_SEED=" + std::to_string(seed));
  tier_.emplace(64 * kMiB, 256 * kKiB);
  Prepare(seed, TierOptions());
  StoreStats sum;
  constexpr int kRuns = 20;
  // How many blocks leave and come back depends on the evictor's thread, too: where it is late,
  // there are more runs.
  constexpr int kMostRuns = 5 * kRuns;
  for (int run = 0; run < kMostRuns && !HasFailure(); ++run) {
    if (run >= kRuns && sum.restored_blocks > operations / 100) break;
    Operate(operations / kRuns);
    const StoreStats stats = store_->Stats();
    sum.restored_blocks += stats.restored_blocks;
    sum.evictions_clean += stats.evictions_clean + stats.evictions_dirty;
    sum.lost_blocks += stats.lost_blocks;
    CrashAndRestart();
    sum.restored_sequences += store_->Stats().restored_sequences;
    sum.restored_prefix_blocks += store_->Stats().restored_prefix_blocks;
  }
  if (HasFailure()) return;
  EXPECT_EQ(sum.lost_blocks, 0u);
  EXPECT_GT(sum.restored_sequences, 20u);
  EXPECT_GT(sum.restored_prefix_blocks, 20u);
  EXPECT_GT(sum.restored_blocks, operations / 100);
  EXPECT_GT(sum.evictions_clean, operations / 100);
  EXPECT_GT(matched_, operations / 100);
  while (!sequences_.empty()) Close();
  store_.reset();
  EXPECT_EQ(catalog_.records(RecordKind::kSequence), 0u);
  EXPECT_EQ(catalog_.records(RecordKind::kColumn), 0u);
  // Prefixes outlive them. After a stop each of their records says where a column is.
  const uint64_t prefixes = catalog_.records(RecordKind::kPrefix);
  EXPECT_GT(prefixes, 0u);
  auto store = Store::Create(TierOptions());
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
  EXPECT_EQ(store_->Stats().restored_prefix_blocks, prefixes);
  EXPECT_EQ(store_->Stats().prefix_blocks, prefixes);
  EXPECT_EQ(catalog_.records(RecordKind::kPrefix), prefixes);
}

void StoreProperty::Prepare(uint64_t seed, const Store::Options& options) {
  random_.seed(seed);
  auto store = Store::Create(options);
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
  for (const KvShape& shape : kShapes) {
    models_.push_back(
        {.fingerprint = "model-" + std::to_string(models_.size()), .name = "", .shape = shape});
    ASSERT_TRUE(store_->RegisterModel(models_.back()).ok());
  }
}

void StoreProperty::Operate(uint64_t operations) {
  for (uint64_t i = 0; i < operations && !HasFailure(); ++i) {
    SCOPED_TRACE("operation " + std::to_string(i));
    Step();
  }
}

void StoreProperty::Run(uint64_t seed, uint64_t operations) {
  SCOPED_TRACE("PASSBAND_TEST_SEED=" + std::to_string(seed));
  Prepare(seed, {.arena = {.bytes = 448 << 10, .slab_bytes = 16 << 10}});
  Operate(operations);
  if (HasFailure()) return;
  // A run in which these do not happen shows nothing.
  EXPECT_GT(exhausted_, operations / 1000);
  EXPECT_GT(matched_, operations / 100);
  EXPECT_GT(aborted_, operations / 1000);
  EXPECT_GT(store_->Stats().evicted_blocks, operations / 100);
  RecordProperty("exhausted", std::to_string(exhausted_));
  RecordProperty("matched_tokens", std::to_string(matched_));
  Finish();
}

uint64_t Seed() {
  const char* given = std::getenv("PASSBAND_TEST_SEED");
  return given != nullptr ? std::stoull(given) : std::random_device{}();
}

TEST_F(StoreProperty, AgreesWithReference) { Run(Seed(), kOperations); }

TEST_F(StoreProperty, AgreesWithReferenceOverATierAndThroughCrashes) {
  RunOverTier(Seed(), kTierOperations);
}

}  // namespace
}  // namespace passband
