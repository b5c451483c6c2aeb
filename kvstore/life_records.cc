#include "kvstore/life_records.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "base/log.h"
#include "kvstore/catalog_records.h"

namespace passband {
namespace {

using std::chrono::milliseconds;

constexpr char kVersion = 1;
constexpr size_t kNumber = 8;
// Of one batch, at most.
constexpr size_t kBatch = 4096;
constexpr auto kLongest = std::chrono::duration_cast<milliseconds>(kMaxTtl);

void Append(Duration time, std::string& out) {
  // A part of one counts as a whole: what is there is not nothing.
  auto count = static_cast<uint64_t>(std::chrono::ceil<milliseconds>(time).count());
  for (size_t i = 0; i < kNumber; ++i, count >>= 8) out.push_back(static_cast<char>(count));
}

std::optional<Duration> Take(std::string_view& from) {
  uint64_t count = 0;
  for (size_t i = kNumber; i-- > 0;) count = count << 8 | static_cast<uint8_t>(from[i]);
  from.remove_prefix(kNumber);
  if (count > static_cast<uint64_t>(kLongest.count())) return std::nullopt;
  return milliseconds(count);
}

LifeRecord RecordOf(const SequenceLife& life, bool idle) {
  const Ttl ttl = life.ttl();
  LifeRecord record;
  if (ttl.own) record.own_ttl = ttl.after;
  if (idle && ttl.after > Duration::zero()) record.idle = std::min<Duration>(life.idle(), kMaxTtl);
  record.pin_left = life.pin_left();
  return record;
}

}  // namespace

std::string Encode(const LifeRecord& record) {
  std::string out(1, kVersion);
  Append(record.own_ttl, out);
  Append(record.idle, out);
  Append(record.pin_left, out);
  return out;
}

StatusOr<LifeRecord> ParseLife(std::string_view key, std::string_view value) {
  constexpr size_t kBytes = 1 + 3 * kNumber;
  if (!value.empty() && value.front() > kVersion) {
    return Error(StatusCode::kUnimplemented,
                 "a record of a life of version {}; this program "
                 "reads {}",
                 static_cast<int>(value.front()), static_cast<int>(kVersion));
  }
  const Status damaged = Error(StatusCode::kDataLoss, "a damaged record of a life");
  if (key.size() != kNumber || value.size() != kBytes || value.front() != kVersion) return damaged;
  value.remove_prefix(1);
  const auto own = Take(value);
  const auto idle = Take(value);
  const auto pin = Take(value);
  if (!own.has_value() || !idle.has_value() || !pin.has_value()) return damaged;
  return LifeRecord{.own_ttl = *own, .idle = *idle, .pin_left = *pin};
}

StatusOr<std::vector<LifeRecords::Pinned>> LifeRecords::Load(const Sequences& sequences) {
  std::map<std::string, std::shared_ptr<Sequence>> by_key;
  for (const auto& sequence : sequences) by_key[NumberKey(sequence->id().value())] = sequence;
  std::vector<Pinned> pinned;
  // Without how long they were not used: the next run may come after a crash, when nobody knows.
  CatalogBatch renewed;
  const auto load = [&](std::string_view key, std::string_view value) {
    const auto found = by_key.find(std::string(key));
    if (found == by_key.end()) return renewed.Erase(RecordKind::kLife, std::string(key));
    const StatusOr<LifeRecord> record = ParseLife(key, value);
    if (!record.ok()) return log::Warn("record_damaged", {{"why", record.status()}});
    SequenceLife& life = found->second->life();
    if (record->own_ttl > Duration::zero()) life.SetTtl({.after = record->own_ttl, .own = true});
    life.SetIdle(record->idle);
    if (record->pin_left > Duration::zero()) pinned.push_back({found->second, record->pin_left});
    const LifeRecord next{.own_ttl = record->own_ttl, .idle = {}, .pin_left = record->pin_left};
    if (next.empty()) return renewed.Erase(RecordKind::kLife, std::string(key));
    renewed.Put(RecordKind::kLife, std::string(key), Encode(next));
    const MutexLock lock(mutex_);
    recorded_.insert(found->second->id().value());
  };
  PASSBAND_RETURN_IF_ERROR(catalog_.ForEach(RecordKind::kLife, load).status());
  if (!renewed.changes.empty()) PASSBAND_RETURN_IF_ERROR(catalog_.Write(renewed));
  return pinned;
}

Status LifeRecords::Write(const Sequences& sequences, bool idle) {
  for (size_t begin = 0; begin < sequences.size(); begin += kBatch) {
    CatalogBatch batch;
    {
      const MutexLock lock(mutex_);
      for (size_t i = begin; i < std::min(begin + kBatch, sequences.size()); ++i) {
        const uint64_t id = sequences[i]->id().value();
        const LifeRecord record = RecordOf(sequences[i]->life(), idle);
        if (!record.empty()) {
          recorded_.insert(id);
          batch.Put(RecordKind::kLife, NumberKey(id), Encode(record));
        } else if (recorded_.erase(id) > 0) {
          batch.Erase(RecordKind::kLife, NumberKey(id));
        }
      }
    }
    if (!batch.changes.empty()) PASSBAND_RETURN_IF_ERROR(catalog_.Write(batch));
  }
  return OkStatus();
}

void LifeRecords::Forget(SequenceId id) {
  const MutexLock lock(mutex_);
  if (recorded_.erase(id.value()) > 0) forgotten_.push_back(id.value());
}

Status LifeRecords::Sweep() {
  CatalogBatch batch;
  {
    const MutexLock lock(mutex_);
    for (const uint64_t id : std::exchange(forgotten_, {})) {
      batch.Erase(RecordKind::kLife, NumberKey(id));
    }
  }
  return batch.changes.empty() ? OkStatus() : catalog_.Write(batch);
}

}  // namespace passband
