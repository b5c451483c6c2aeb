#include "kvstore/sequence_table.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace passband {
namespace {

constexpr size_t kPiece = 256;
// 53 bits in all, which a JSON reader holds exactly: seconds since 2020, then what a run counts
// up. A run that gives more a second borrows from seconds that it outlives.
constexpr int kIdBits = 22;
constexpr uint64_t kIdsOfASecond = uint64_t{1} << kIdBits;
constexpr uint64_t kIdSeconds = (uint64_t{1} << 31) - 1;
constexpr int64_t kIdEpoch = 1'577'836'800;
constexpr std::chrono::seconds kRetryAfter{1};

}  // namespace

uint64_t FirstSequenceId(std::chrono::system_clock::time_point now, uint64_t random) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  const uint64_t since = static_cast<uint64_t>(std::max<int64_t>(seconds - kIdEpoch, 0));
  return ((since & kIdSeconds) << kIdBits) + 1 + random % (kIdsOfASecond / 2);
}

void SequenceTable::StartAfter(uint64_t id) {
  MutexLock lock(mutex_);
  if (first_id_ >= id + kIdsOfASecond) return;
  first_id_ = id + kIdsOfASecond;
  last_id_ = first_id_ - 1;
}

uint64_t SequenceTable::first_id() const {
  MutexLock lock(mutex_);
  return first_id_;
}

SequenceId SequenceTable::NextId() {
  MutexLock lock(mutex_);
  return SequenceId(++last_id_);
}

Status SequenceTable::Insert(std::shared_ptr<Sequence> sequence, OverQuota over) {
  MutexLock lock(mutex_);
  if (sequences_.size() >= max_sequences_) {
    return WithRetryAfter(
        Error(StatusCode::kResourceExhausted, "{} sequences are open, of {} at most",
              sequences_.size(), max_sequences_),
        kRetryAfter);
  }
  PASSBAND_RETURN_IF_ERROR(sequence->identity().account->TakeSequence(over));
  const SequenceId id = sequence->id();
  PASSBAND_CHECK(sequences_.emplace(id, std::move(sequence)).second);
  return OkStatus();
}

StatusOr<std::shared_ptr<Sequence>> SequenceTable::Find(const std::string& tenant,
                                                        SequenceId id) const {
  std::shared_ptr<Sequence> sequence;
  {
    MutexLock lock(mutex_);
    const auto found = sequences_.find(id);
    if (found != sequences_.end()) sequence = found->second;
  }
  if (sequence == nullptr || sequence->identity().tenant != tenant) {
    return Error(StatusCode::kNotFound, "sequence {} is not open", id);
  }
  return sequence;
}

std::shared_ptr<Sequence> SequenceTable::Find(SequenceId id) const {
  MutexLock lock(mutex_);
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second;
}

void SequenceTable::Erase(SequenceId id) {
  std::shared_ptr<Sequence> gone;  // outlives the lock
  MutexLock lock(mutex_);
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  gone = std::move(found->second);
  gone->identity().account->DropSequence();
  sequences_.erase(found);
}

std::vector<std::shared_ptr<Sequence>> SequenceTable::After(SequenceId after) const {
  std::vector<std::shared_ptr<Sequence>> piece;
  MutexLock lock(mutex_);
  for (auto at = sequences_.upper_bound(after); at != sequences_.end() && piece.size() < kPiece;
       ++at) {
    piece.push_back(at->second);
  }
  return piece;
}

}  // namespace passband
