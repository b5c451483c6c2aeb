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
constexpr std::chrono::milliseconds kRetryErasing{500};

}  // namespace

Sealer::Sealer(BlockHome& home, Spiller& spiller, Catalog& catalog, const ModelRegistry& models,
               ColumnLedger ledger)
    : home_(home),
      spiller_(spiller),
      catalog_(catalog),
      models_(models),
      ledger_(std::move(ledger)),
      thread_(StartThread("pb-seal", [this](const std::stop_token&) { Run(); })) {}

Sealer::~Sealer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
  home_.KeepCopies(true);  // what is left of tails_ is recorded
}

void Sealer::Seal(std::shared_ptr<Sequence> sequence, Done done) {
  const SequenceId id = sequence->id();
  Add({.sequence = std::move(sequence), .done = std::move(done), .id = id, .contents = nullptr});
}

void Sealer::Forget(SequenceId id, Sequence::Contents contents) {
  Add({.sequence = nullptr,
       .done = nullptr,
       .id = id,
       .contents = std::make_shared<Sequence::Contents>(std::move(contents))});
}

void Sealer::Add(Request request) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  queue_.push_back(std::move(request));
  wake_.notify_all();
}

void Sealer::Run() {
  while (true) {
    Requests requests = Next();
    if (requests.empty()) return;
    const size_t count = requests.size();
    if (requests.front().sequence != nullptr) {
      SealAll(requests);
    } else {
      ForgetAll(requests);
    }
    pending_.fetch_sub(count, std::memory_order_relaxed);
  }
}

Sealer::Requests Sealer::Next() {
  MutexLock lock(mutex_);
  while (queue_.empty()) {
    if (stopping_) return {};
    wake_.wait(mutex_);
  }
  Requests requests;
  const bool seals = queue_.front().sequence != nullptr;
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
    if (status.ok()) status = catalog_.Write(ledger_.batch());
    if (status.ok()) {
      ledger_.Apply();
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
  uint64_t oldest = ~uint64_t{0};
  std::erase_if(requests, [&](const Request& request) {
    if (ledger_.Holds(request.id)) {
      request.done(OkStatus());
      return true;
    }
    StatusOr<DurableSequence> durable = Prepare(*request.sequence);
    if (!durable.ok()) {
      failures_.fetch_add(1, std::memory_order_relaxed);
      request.done(durable.status());
      return true;
    }
    oldest = std::min(oldest, OldestOf(*durable));
    const StatusOr<ModelSpec> model = models_.Find(durable->record.model);
    ledger_.Add(*model, *std::move(durable));
    return false;
  });
  return oldest;
}

void Sealer::ForgetAll(Requests& requests) {
  for (const Request& request : requests) ledger_.Remove(request.id);
  if (ledger_.batch().changes.empty()) return;
  while (true) {
    const Status written = catalog_.Write(ledger_.batch());
    if (written.ok()) break;
    failures_.fetch_add(1, std::memory_order_relaxed);
    MutexLock lock(mutex_);
    if (stopping_) {
      // They will be back after a restart, as far as their blocks are still there.
      log::Warn("records_not_erased", {{"sequences", requests.size()}, {"why", written}});
      ledger_.Revert();
      return;
    }
    wake_.wait_until(mutex_, std::chrono::steady_clock::now() + kRetryErasing);
  }
  ledger_.Apply();
  for (const Request& request : requests) tails_.erase(request.id.value());
}

StatusOr<DurableSequence> Sealer::Prepare(Sequence& sequence) {
  PASSBAND_ASSIGN_OR_RETURN(Sequence::Kept kept, sequence.Keep());
  const Sequence::Identity& identity = sequence.identity();
  DurableSequence out;
  const uint64_t whole = kept.committed / kBlockTokens;
  for (uint64_t i = 0; i < whole; ++i) {
    ColumnRecord& column = out.columns.emplace_back();
    column.named = i < kept.chain.size();
    if (column.named) column.digest = kept.chain[i];
    for (const BlockRef& block : kept.columns[i]) {
      PASSBAND_ASSIGN_OR_RETURN(const BlockAddress address, WriteBlock(*block.get()));
      column.blocks.push_back(address);
    }
  }
  if (whole < kept.columns.size()) {
    for (uint32_t layer = 0; layer < identity.shape.layers; ++layer) {
      PASSBAND_ASSIGN_OR_RETURN(
          const BlockAddress address,
          WriteTail(sequence, layer, kept.columns[whole][layer], kept.committed % kBlockTokens));
      out.record.tail.push_back(address);
    }
  }
  out.record.id = identity.id.value();
  out.record.tenant = identity.tenant;
  out.record.model = identity.model;
  out.record.max_tokens = identity.max_tokens;
  out.record.committed = kept.committed;
  out.record.ids = std::move(kept.token_ids);
  return out;
}

StatusOr<BlockAddress> Sealer::WriteBlock(Block& block) {
  for (int tries = 0; tries < kTries; ++tries) {
    PASSBAND_RETURN_IF_ERROR(spiller_.Write(block));
    if (block.lost()) break;
    if (block.clean()) return block.address();
  }
  return Error(StatusCode::kDataLoss, "a block is lost: the tier forgot it");
}

// A block that is not whole yet may be another sequence's to write on: a copy of these rows is
// written, and takes its place in this sequence.
StatusOr<BlockAddress> Sealer::WriteTail(Sequence& sequence, uint32_t layer, const BlockRef& block,
                                         uint64_t rows) {
  if (block->frozen()) return WriteBlock(*block.get());
  if (!block->TryPinWhole()) return WriteBlock(*block.get());  // frozen, and gone, meanwhile
  const Pin pin(block.get());
  const KvShape& shape = sequence.identity().shape;
  std::vector<std::byte> copy(block->bytes());
  for (uint64_t head = 0; head < shape.kv_heads; ++head) {
    const uint64_t at = head * kBlockTokens * shape.row_bytes;
    std::memcpy(copy.data() + at, block->data() + at, rows * shape.row_bytes);
  }
  PASSBAND_ASSIGN_OR_RETURN(const BlockAddress address, spiller_.Put(copy, block->planes()));
  BlockRef stored = home_.Adopt(block->bytes(), block->planes(), address, block->tenant());
  if (!sequence.ReplaceTail(layer, block, stored)) {
    tails_[sequence.id().value()].push_back(std::move(stored));
  }
  return address;
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
          .pending = pending_.load(std::memory_order_relaxed)};
}

}  // namespace passband
