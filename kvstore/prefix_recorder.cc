#include "kvstore/prefix_recorder.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "kvstore/catalog_records.h"

namespace passband {
namespace {

// Between looks at the index; after failures up to the other.
constexpr std::chrono::seconds kPause{2};
constexpr std::chrono::seconds kLongestPause{30};
// How often blocks are written that columns in the tier need in front of them, at a time.
constexpr int kRounds = 8;

}  // namespace

void PrefixRecorder::Gather(std::span<const PrefixDigest> chain) { Put(index_.TakeStored(chain)); }

void PrefixRecorder::Put(std::span<const PrefixRecord> columns) {
  for (const PrefixRecord& column : columns) {
    changes_[column.digest] = Encode(column);
    if (!recorded_models_.contains(column.model)) other_models_.insert(column.model);
  }
}

Status PrefixRecorder::Write(CatalogBatch batch) {
  for (const std::string& fingerprint : other_models_) {
    PASSBAND_ASSIGN_OR_RETURN(const ModelSpec model, models_.Find(fingerprint));
    batch.Put(RecordKind::kModel, fingerprint, Encode(model));
  }
  for (const auto& [digest, record] : changes_) {
    if (record.empty()) {
      batch.Erase(RecordKind::kPrefix, DigestKey(digest));
    } else {
      batch.Put(RecordKind::kPrefix, DigestKey(digest), record);
    }
  }
  if (!batch.changes.empty()) PASSBAND_RETURN_IF_ERROR(catalog_.Write(batch));
  changes_.clear();
  recorded_.store(index_.recorded(), std::memory_order_relaxed);
  recorded_models_.merge(other_models_);
  other_models_.clear();
  return OkStatus();
}

void PrefixRecorder::RecordIfDue() {
  if (std::chrono::steady_clock::now() >= next_) Record();
}

void PrefixRecorder::Record() {
  for (const PrefixDigest& digest : index_.TakeGone()) changes_[digest].clear();
  bool more = true;
  for (int round = 0; more && round < kRounds; ++round) {
    const PrefixIndex::Stored stored = index_.TakeStored();
    Put(stored.columns);
    more = WriteBlocks(stored.lacking);
  }
  const bool puts =
      std::ranges::any_of(changes_, [](const auto& change) { return !change.second.empty(); });
  Status status;
  if (puts) status = spiller_.Flush();
  if (status.ok()) status = Write({});
  pause_ = status.ok() ? Duration(kPause) : std::clamp<Duration>(2 * pause_, kPause, kLongestPause);
  next_ = std::chrono::steady_clock::now() + pause_;
  if (!status.ok()) {
    log::Warn("prefixes_not_recorded_yet", {{"columns", changes_.size()}, {"why", status}});
  }
}

bool PrefixRecorder::WriteBlocks(std::span<const BlockRef> blocks) {
  const auto write = [this](const BlockRef& block) {
    return spiller_.willing() && spiller_.Write(*block.get()).ok();
  };
  return !blocks.empty() && std::ranges::all_of(blocks, write);
}

}  // namespace passband
