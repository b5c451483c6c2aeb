#include "kvstore/record_walk.h"

#include <rocksdb/db.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "kvstore/rocksdb_support.h"
#include "kvstore/spill_format.h"

namespace passband {
namespace {

// Long enough to tell keys apart that lie behind a damaged stretch.
constexpr size_t kPointBytes = 24;
using Point = std::array<uint8_t, kPointBytes>;  // a number, big-endian

Point ToPoint(const std::string& key) {
  Point point{};
  std::copy_n(key.begin(), std::min(key.size(), kPointBytes), point.begin());
  return point;
}

std::string ToKey(const Point& point) { return {point.begin(), point.end()}; }

Point Middle(const Point& low, const Point& high) {
  std::array<uint32_t, kPointBytes + 1> sum{};  // with the carry in front
  uint32_t carry = 0;
  for (size_t i = kPointBytes; i-- > 0;) {
    const uint32_t digit = low[i] + high[i] + carry;
    sum[i + 1] = digit & 0xff;
    carry = digit >> 8;
  }
  sum[0] = carry;
  Point middle;
  for (size_t i = 0; i < kPointBytes; ++i) {
    middle[i] = static_cast<uint8_t>((sum[i] << 7 | sum[i + 1] >> 1) & 0xff);
  }
  return middle;
}

struct Hole {
  std::string begin;
  std::string end;
};

// One copy, read forward; what cannot be read is left out and remembered.
class Copy {
 public:
  Copy(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, const std::string& end)
      : db_(db), family_(family), end_(end), bound_(end_) {}

  Status Seek(const std::string& key) {
    iterator_ = At(key);
    return Settle(key);
  }
  Status Next() {
    const std::string at = iterator_->key().ToString();
    iterator_->Next();
    return Settle(at);
  }
  bool valid() const { return iterator_->Valid(); }
  std::string_view key() const { return iterator_->key().ToStringView(); }
  StatusOr<std::string_view> value() const {
    return CheckRecord(key(), iterator_->value().ToStringView());
  }
  const std::vector<Hole>& holes() const { return holes_; }

 private:
  std::unique_ptr<rocksdb::Iterator> At(const std::string& key) const {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    options.iterate_upper_bound = &bound_;
    std::unique_ptr<rocksdb::Iterator> iterator(db_.NewIterator(options, family_));
    iterator->Seek(key);
    return iterator;
  }

  // Goes on behind a damaged stretch that begins after `from`.
  Status Settle(const std::string& from) {
    if (iterator_->Valid() || iterator_->status().ok()) return OkStatus();
    const Status why = FromRocksDb(iterator_->status(), "reading records");
    if (why.code() != StatusCode::kDataLoss) return why;
    Point low = ToPoint(from);
    Point high = ToPoint(end_);
    for (Point middle = Middle(low, high); middle != low; middle = Middle(low, high)) {
      const auto probe = At(ToKey(middle));
      (probe->Valid() || probe->status().ok() ? high : low) = middle;
    }
    holes_.push_back({from, ToKey(high)});
    iterator_ = At(ToKey(high));
    if (iterator_->Valid() || iterator_->status().ok()) return OkStatus();
    holes_.back().end = end_;  // Nothing behind it can be read.
    iterator_.reset(rocksdb::NewEmptyIterator());
    return OkStatus();
  }

  rocksdb::DB& db_;
  rocksdb::ColumnFamilyHandle* const family_;
  const std::string end_;
  const rocksdb::Slice bound_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
  std::vector<Hole> holes_;
};

uint64_t Overlaps(const std::vector<Hole>& a, const std::vector<Hole>& b) {
  uint64_t count = 0;
  for (const Hole& x : a) {
    for (const Hole& y : b) count += x.begin < y.end && y.begin < x.end ? 1 : 0;
  }
  return count;
}

}  // namespace

StatusOr<RecordWalk> WalkRecords(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* a,
                                 rocksdb::ColumnFamilyHandle* b, const std::string& begin,
                                 const std::string& end, const RecordVisit& visit) {
  Copy copy_a(db, a, end);
  Copy copy_b(db, b, end);
  PASSBAND_RETURN_IF_ERROR(copy_a.Seek(begin));
  PASSBAND_RETURN_IF_ERROR(copy_b.Seek(begin));
  RecordWalk walk;
  while (copy_a.valid() || copy_b.valid()) {
    const bool from_a = copy_a.valid() && (!copy_b.valid() || copy_a.key() <= copy_b.key());
    const bool from_b = copy_b.valid() && (!copy_a.valid() || copy_b.key() <= copy_a.key());
    const std::string key(from_a ? copy_a.key() : copy_b.key());
    StatusOr<std::string_view> value = Error(StatusCode::kDataLoss, "in neither copy");
    if (from_a) {
      value = copy_a.value();
      walk.damaged_a += value.ok() ? 0 : 1;
    }
    if (from_b) {
      const auto other = copy_b.value();
      walk.damaged_b += other.ok() ? 0 : 1;
      if (!value.ok()) value = other;
    }
    if (value.ok()) {
      ++walk.records;
      visit(key, *value);
    } else {
      ++walk.lost;
    }
    if (from_a) PASSBAND_RETURN_IF_ERROR(copy_a.Next());
    if (from_b) PASSBAND_RETURN_IF_ERROR(copy_b.Next());
  }
  walk.damaged_a += copy_a.holes().size();
  walk.damaged_b += copy_b.holes().size();
  walk.lost += Overlaps(copy_a.holes(), copy_b.holes());
  return walk;
}

}  // namespace passband
