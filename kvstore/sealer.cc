#include "kvstore/sealer.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace passband {
namespace {

// Sequences that share a flush and a batch, at most.
constexpr size_t kBatch = 64;
// A generation may be forgotten between a block's writing and its recording.
constexpr int kTries = 3;
// Between tries of what failed: at first, and at last.
constexpr std::chrono::milliseconds kFirstPause{500};
constexpr std::chrono::seconds kLongestPause{30};
// How often it is looked whether the tier forgot something.
constexpr std::chrono::milliseconds kIdle{500};
// Blocks of a closed sequence are held for its records that many tries.
constexpr uint32_t kHoldingTries = 8;

}  // namespace

void Sealer::Retry::Fail() {
  pause = failures++ == 0 ? Duration(kFirstPause) : std::min<Duration>(2 * pause, kLongestPause);
  next = std::chrono::steady_clock::now() + pause;
}

Sealer::Sealer(BlockHome& home, PrefixIndex& index, Spiller& spiller, Catalog& catalog,
               const ModelRegistry& models, const SequenceTable& table, ColumnLedger ledger)
    : home_(home),
      spiller_(spiller),
      catalog_(catalog),
      models_(models),
      table_(table),
      ledger_(std::move(ledger)),
      prefixes_(index, spiller, catalog, models),
      forgotten_(home.forgotten_generation()),
      thread_(StartThread("pb-seal", [this](const std::stop_token&) { Run(); })) {}

Sealer::~Sealer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
  home_.KeepCopies(true);  // what is left of tails_ and to_forget_ is recorded
}

void Sealer::Seal(std::shared_ptr<Sequence> sequence, Done done) {
  const SequenceId id = sequence->id();
  Add({.sequence = std::move(sequence), .done = std::move(done), .id = id, .contents = nullptr});
}

void Sealer::Forget(SequenceId id, SequenceContents contents) {
  Add({.sequence = nullptr,
       .done = nullptr,
       .id = id,
       .contents = std::make_shared<SequenceContents>(std::move(contents))});
}

void Sealer::Add(Request request) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  queue_.push_back(std::move(request));
  wake_.notify_all();
}

void Sealer::Run() {
  bool stopping = false;
  while (!stopping) {
    Requests requests = Next(stopping);
    if (!requests.empty() && requests.front().sequence != nullptr) {
      const size_t count = requests.size();
      SealAll(requests);
      pending_.fetch_sub(count, std::memory_order_relaxed);
    }
    for (Request& request : requests) {
      if (request.contents != nullptr) to_forget_.push_back(std::move(request));
    }
    erasures_pending_.store(to_forget_.size(), std::memory_order_relaxed);
    if (stopping || std::chrono::steady_clock::now() >= forgetting_.next) {
      while (!to_forget_.empty() && ForgetSome()) {
      }
    }
    stopping ? prefixes_.Record() : prefixes_.RecordIfDue();
    if (stopping || std::chrono::steady_clock::now() < renewing_.next) continue;
    FindForgotten();
    RenewSome();
  }
  if (to_forget_.empty()) return;
  // They will be back after a restart, as far as their blocks are still there.
  log::Warn("records_not_erased", {{"sequences", to_forget_.size()}});
}

Sealer::Requests Sealer::Next(bool& stopping) {
  const Time now = std::chrono::steady_clock::now();
  const bool renews = !to_renew_.empty() && now >= renewing_.next;
  const Time until = renews ? now : now + kIdle;
  MutexLock lock(mutex_);
  while (queue_.empty() && !stopping_) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) break;
  }
  stopping = stopping_ && queue_.empty();
  Requests requests;
  const bool seals = !queue_.empty() && queue_.front().sequence != nullptr;
  while (!queue_.empty() && requests.size() < kBatch &&
         (queue_.front().sequence != nullptr) == seals) {
    requests.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return requests;
}

void Sealer::SealAll(Requests& requests) {
  Status status;
  for (int tries = 0; tries < kTries; ++tries) {
    const uint64_t oldest = PrepareAll(requests);
    if (requests.empty()) return;
    status = spiller_.Flush();
    if (status.ok() && oldest <= home_.forgotten_generation()) {
      ledger_.Revert();
      status = Error(StatusCode::kResourceExhausted,
                     "the tier forgets blocks faster than they are recorded");
      continue;
    }
    if (status.ok()) status = prefixes_.Write(ledger_.batch());
    if (status.ok()) {
      ledger_.Apply();
      for (const Request& request : requests) to_renew_.erase(request.id.value());
    } else {
      ledger_.Revert();
    }
    break;
  }
  for (const Request& request : requests) {
    (status.ok() ? sealed_ : failures_).fetch_add(1, std::memory_order_relaxed);
    request.done(status);
  }
}

uint64_t Sealer::PrepareAll(Requests& requests) {
  FindForgotten();
  uint64_t oldest = ~uint64_t{0};
  std::erase_if(requests, [&](const Request& request) {
    if (ledger_.Holds(request.id) && !to_renew_.contains(request.id.value())) {
      request.done(OkStatus());
      return true;
    }
    StatusOr<DurableSequence> durable = Prepare(*request.sequence, nullptr);
    if (!durable.ok()) {
      failures_.fetch_add(1, std::memory_order_relaxed);
      request.done(durable.status());
      return true;
    }
    oldest = std::min(oldest, OldestOf(*durable));
    prefixes_.Gather(NamesOf(*durable));
    const StatusOr<ModelSpec> model = models_.Find(durable->record.model);
    ledger_.Add(*model, *std::move(durable));
    return false;
  });
  return oldest;
}

bool Sealer::ForgetSome() {
  const size_t count = std::min(kBatch, to_forget_.size());
  for (size_t i = 0; i < count; ++i) ledger_.Remove(to_forget_[i].id);
  const Status written =
      ledger_.batch().changes.empty() ? OkStatus() : catalog_.Write(ledger_.batch());
  if (!written.ok()) {
    ledger_.Revert();
    erasure_failures_.fetch_add(1, std::memory_order_relaxed);
    forgetting_.Fail();
    log::Warn(
        "records_not_erased_yet",
        {{"sequences", to_forget_.size()}, {"tries", forgetting_.failures}, {"why", written}});
    if (forgetting_.failures < kHoldingTries) return false;
    for (Request& request : to_forget_) request.contents.reset();
    return false;
  }
  forgetting_.Succeed();
  ledger_.Apply();
  for (size_t i = 0; i < count; ++i) {
    const uint64_t id = to_forget_.front().id.value();
    tails_.erase(id);
    to_renew_.erase(id);
    to_forget_.pop_front();
  }
  pending_.fetch_sub(count, std::memory_order_relaxed);
  erasures_pending_.store(to_forget_.size(), std::memory_order_relaxed);
  return true;
}

void Sealer::FindForgotten() {
  const uint64_t forgotten = home_.forgotten_generation();
  if (forgotten == forgotten_) return;
  for (const SequenceId id : ledger_.Naming(forgotten_, forgotten)) to_renew_.insert(id.value());
  prefixes_.NoteForgotten(forgotten);
  forgotten_ = forgotten;
  renewals_pending_.store(to_renew_.size(), std::memory_order_relaxed);
}

std::vector<SequenceId> Sealer::NextToRenew() {
  auto next = to_renew_.upper_bound(renewed_up_to_);
  if (next == to_renew_.end()) {
    // A round is over.
    if (std::exchange(unfinished_, false)) {
      renewing_.Fail();
      renewed_up_to_ = 0;
      return {};
    }
    renewing_.Succeed();
    next = to_renew_.begin();
  }
  std::vector<SequenceId> ids;
  for (; next != to_renew_.end() && ids.size() < kBatch; ++next) ids.emplace_back(*next);
  renewed_up_to_ = ids.empty() ? 0 : ids.back().value();
  return ids;
}

void Sealer::RenewSome() {
  std::vector<Renewal> renewals;
  const uint64_t forgotten = home_.forgotten_generation();
  for (const SequenceId id : NextToRenew()) {
    if (std::optional<Renewal> renewal = Renew(id)) renewals.push_back(*std::move(renewal));
  }
  // So that sequences which the tier cannot hold together do not push each other out for ever.
  if (home_.forgotten_generation() != forgotten) unfinished_ = true;
  if (!renewals.empty()) {
    Status status = spiller_.Flush();
    if (status.ok()) status = catalog_.Write(ledger_.batch());
    if (status.ok()) {
      ledger_.Apply();
      for (Renewal& renewal : renewals) NoteRenewed(renewal);
    } else {
      ledger_.Revert();
      unfinished_ = true;
      for (Renewal& renewal : renewals) KeepTails(renewal);
      log::Warn("sequences_not_renewed", {{"sequences", renewals.size()}, {"why", status}});
    }
  }
  renewals_pending_.store(to_renew_.size(), std::memory_order_relaxed);
}

std::optional<Sealer::Renewal> Sealer::Renew(SequenceId id) {
  Renewal renewal{.id = id.value(), .former_tails = {}, .gaps = {}};
  if (renewing_.failures > 0) renewal.gaps.when_full = Spiller::WhenFull::kByPolicy;
  const std::shared_ptr<Sequence> sequence = table_.Find(id);
  if (sequence == nullptr) {
    to_renew_.erase(id.value());  // closed meanwhile: its records go
    return std::nullopt;
  }
  if (const auto tails = tails_.find(id.value()); tails != tails_.end()) {
    renewal.former_tails = std::exchange(tails->second, {});
  }
  StatusOr<DurableSequence> durable = Prepare(*sequence, &renewal.gaps);
  if (!durable.ok()) {
    KeepTails(renewal);
    unfinished_ = true;
    return std::nullopt;
  }
  const StatusOr<ModelSpec> model = models_.Find(durable->record.model);
  ledger_.Add(*model, *std::move(durable));
  return renewal;
}

void Sealer::KeepTails(Renewal& renewal) {
  if (renewal.former_tails.empty()) return;
  std::vector<BlockRef>& tails = tails_[renewal.id];
  tails.insert(tails.end(), renewal.former_tails.begin(), renewal.former_tails.end());
}

void Sealer::NoteRenewed(Renewal& renewal) {
  const auto& [id, former_tails, gaps] = renewal;
  if (!gaps.refused.ok()) {
    unfinished_ = true;
    return KeepTails(renewal);
  }
  to_renew_.erase(id);
  if (gaps.lost == 0) {
    renewed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  lost_.fetch_add(1, std::memory_order_relaxed);
  log::Warn("sealed_sequence_lost_blocks",
            {{"sequence", id},
             {"blocks", gaps.lost},
             {"why", "the spill was full and forgot them, and they were not in RAM"}});
}

StatusOr<DurableSequence> Sealer::Prepare(Sequence& sequence, Gaps* gaps) {
  PASSBAND_ASSIGN_OR_RETURN(Sequence::Kept kept, sequence.Keep());
  const Sequence::Identity& identity = sequence.identity();
  DurableSequence out;
  const uint64_t whole = kept.committed / kBlockTokens;
  for (uint64_t i = 0; i < whole; ++i) {
    ColumnRecord& column = out.columns.emplace_back();
    column.named = i < kept.chain.size();
    if (column.named) column.digest = kept.chain[i];
    for (const BlockRef& block : kept.columns[i]) {
      PASSBAND_ASSIGN_OR_RETURN(const BlockAddress address, WriteBlock(*block.get(), gaps));
      column.blocks.push_back(address);
    }
  }
  if (whole < kept.columns.size()) {
    PASSBAND_RETURN_IF_ERROR(WriteTails(sequence, kept, gaps, out.record.tail));
  }
  out.record.id = identity.id.value();
  out.record.tenant = identity.tenant;
  out.record.model = identity.model;
  out.record.max_tokens = identity.max_tokens;
  out.record.committed = kept.committed;
  out.record.ids = std::move(kept.token_ids);
  return out;
}

Status Sealer::WriteTails(Sequence& sequence, const Sequence::Kept& kept, Gaps* gaps,
                          std::vector<BlockAddress>& tail) {
  const std::vector<BlockAddress> former = ledger_.TailOf(sequence.id());
  for (uint32_t layer = 0; layer < sequence.identity().shape.layers; ++layer) {
    StatusOr<BlockAddress> address =
        WriteTail(sequence, layer, kept.columns.back()[layer], kept.committed % kBlockTokens, gaps);
    if (!address.ok() && gaps != nullptr && layer < former.size()) {
      gaps->refused = address.status();
      address = former[layer];
    }
    PASSBAND_RETURN_IF_ERROR(address.status());
    tail.push_back(*address);
  }
  return OkStatus();
}

StatusOr<BlockAddress> Sealer::WriteBlock(Block& block, Gaps* gaps) {
  const auto when_full = gaps == nullptr ? Spiller::WhenFull::kByPolicy : gaps->when_full;
  for (int tries = 0; tries < kTries; ++tries) {
    const Status written = spiller_.Write(block, when_full);
    if (!written.ok()) {
      if (gaps == nullptr || !block.address()) return written;
      gaps->refused = written;
      return block.address();
    }
    if (block.lost()) break;
    if (block.clean()) return block.address();
  }
  if (gaps != nullptr) {
    ++gaps->lost;
    return block.address();
  }
  return Error(StatusCode::kDataLoss,
               "a block is lost: the spill was full and forgot it, and it was not in RAM");
}

// A block that is not whole yet may be another sequence's to write on: a copy of these rows is
// written, and takes its place in this sequence.
StatusOr<BlockAddress> Sealer::WriteTail(Sequence& sequence, uint32_t layer, const BlockRef& block,
                                         uint64_t rows, Gaps* gaps) {
  if (block->frozen()) return WriteBlock(*block.get(), gaps);
  if (!block->TryPinWhole()) return WriteBlock(*block.get(), gaps);  // frozen, and gone, meanwhile
  const Pin pin(block.get());
  const KvShape& shape = sequence.identity().shape;
  std::vector<std::byte> copy(block->bytes());
  for (uint64_t head = 0; head < shape.kv_heads; ++head) {
    const uint64_t at = head * kBlockTokens * shape.row_bytes;
    std::memcpy(copy.data() + at, block->data() + at, rows * shape.row_bytes);
  }
  PASSBAND_ASSIGN_OR_RETURN(
      const BlockAddress address,
      spiller_.Put(copy, block->planes(),
                   gaps == nullptr ? Spiller::WhenFull::kByPolicy : gaps->when_full));
  BlockRef stored = home_.Adopt(block->bytes(), block->planes(), address, block->tenant());
  if (!sequence.ReplaceTail(layer, block, stored)) {
    tails_[sequence.id().value()].push_back(std::move(stored));
  }
  return address;
}

std::vector<PrefixDigest> Sealer::NamesOf(const DurableSequence& sequence) {
  std::vector<PrefixDigest> names;
  for (const ColumnRecord& column : sequence.columns) {
    if (column.named) names.push_back(column.digest);
  }
  return names;
}

uint64_t Sealer::OldestOf(const DurableSequence& sequence) {
  uint64_t oldest = ~uint64_t{0};
  for (const BlockAddress& address : sequence.record.tail) {
    oldest = std::min(oldest, address.generation);
  }
  for (const ColumnRecord& column : sequence.columns) {
    for (const BlockAddress& address : column.blocks) {
      oldest = std::min(oldest, address.generation);
    }
  }
  return oldest;
}

Sealer::Stats Sealer::stats() const {
  return {.sealed = sealed_.load(std::memory_order_relaxed),
          .failures = failures_.load(std::memory_order_relaxed),
          .pending = pending_.load(std::memory_order_relaxed),
          .renewed = renewed_.load(std::memory_order_relaxed),
          .renewals_pending = renewals_pending_.load(std::memory_order_relaxed),
          .lost = lost_.load(std::memory_order_relaxed),
          .erasure_failures = erasure_failures_.load(std::memory_order_relaxed),
          .erasures_pending = erasures_pending_.load(std::memory_order_relaxed),
          .prefixes = prefixes_.recorded()};
}

}  // namespace passband
