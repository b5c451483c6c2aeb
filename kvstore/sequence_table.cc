#include "kvstore/sequence_table.h"

#include <chrono>
#include <utility>

namespace passband {
namespace {

constexpr size_t kPiece = 256;
constexpr std::chrono::seconds kRetryAfter{1};

}  // namespace

SequenceId SequenceTable::NextId() {
  MutexLock lock(mutex_);
  return SequenceId(++last_id_);
}

Status SequenceTable::Insert(std::shared_ptr<Sequence> sequence) {
  MutexLock lock(mutex_);
  if (sequences_.size() >= max_sequences_) {
    return WithRetryAfter(
        Error(StatusCode::kResourceExhausted, "{} sequences are open, of {} at most",
              sequences_.size(), max_sequences_),
        kRetryAfter);
  }
  const SequenceId id = sequence->id();
  sequences_.emplace(id, std::move(sequence));
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

void SequenceTable::Erase(SequenceId id) {
  std::shared_ptr<Sequence> gone;  // outlives the lock
  MutexLock lock(mutex_);
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  gone = std::move(found->second);
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
