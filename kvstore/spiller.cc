#include "kvstore/spiller.h"

#include <chrono>

#include "kvstore/catalog_records.h"

namespace passband {
namespace {

// After a refusal or a failure.
constexpr std::chrono::milliseconds kPause{500};
// A put that fits after none of these does not fit.
constexpr int kDrops = 4;

}  // namespace

Status Spiller::Write(Block& block, WhenFull when_full) {
  while (!block.BeginWrite()) {
    if (!block.writing()) return OkStatus();
    home_.WaitForRoom(std::chrono::steady_clock::now() + kPause);
  }
  const StatusOr<BlockAddress> address =
      Put({block.data(), block.bytes()}, block.planes(), when_full);
  block.EndWrite(address.ok() ? *address : BlockAddress{});
  return address.status();
}

StatusOr<BlockAddress> Spiller::Put(std::span<const std::byte> bytes, uint32_t planes,
                                    WhenFull when_full) {
  for (int drops = 0;; ++drops) {
    const uint64_t seen = home_.forgotten_generation();
    StatusOr<BlockAddress> address = home_.tier()->Put(bytes, planes);
    if (address.ok()) {
      written_blocks_.fetch_add(1, std::memory_order_relaxed);
      written_bytes_.fetch_add(bytes.size(), std::memory_order_relaxed);
    }
    const bool full = address.status().code() == StatusCode::kResourceExhausted;
    if (full && when_full == WhenFull::kRefuse) return address;
    if (full && policy_ == FullTierPolicy::kDropOldest && drops < kDrops) {
      const Status dropped = DropOldest(seen);
      if (dropped.ok()) continue;
    }
    if (full && policy_ == FullTierPolicy::kReject && index_.DropStored() > 0) continue;
    Note(address.status());
    return address;
  }
}

Status Spiller::DropOldest(uint64_t seen) {
  MutexLock lock(drop_mutex_);
  if (home_.forgotten_generation() != seen) return OkStatus();
  home_.BeginForgetting();
  const StatusOr<uint64_t> generation = home_.tier()->DropOldest();
  if (generation.ok()) home_.Forget(*generation);
  home_.StopForgetting();
  if (!generation.ok()) return generation.status();
  dropped_generations_.fetch_add(1, std::memory_order_relaxed);
  index_.DropLost();
  if (catalog_ == nullptr) return OkStatus();
  CatalogBatch batch;
  batch.Put(RecordKind::kStore, kForgottenKey, Encode(home_.forgotten_generation()));
  // Without the record, a later run finds the blocks gone when it reads them.
  if (!catalog_->Write(batch).ok()) errors_.fetch_add(1, std::memory_order_relaxed);
  return OkStatus();
}

Status Spiller::Flush() {
  Status status = home_.tier()->Flush();
  Note(status);
  return status;
}

void Spiller::Note(const Status& status) {
  if (status.ok()) {
    pool_.set_spilling(true);
    return;
  }
  errors_.fetch_add(1, std::memory_order_relaxed);
  pool_.set_spilling(false);
  again_.store(std::chrono::steady_clock::now() + kPause);
}

Spiller::Stats Spiller::stats() const {
  return {.written_blocks = written_blocks_.load(std::memory_order_relaxed),
          .written_bytes = written_bytes_.load(std::memory_order_relaxed),
          .errors = errors_.load(std::memory_order_relaxed),
          .dropped_generations = dropped_generations_.load(std::memory_order_relaxed)};
}

}  // namespace passband
