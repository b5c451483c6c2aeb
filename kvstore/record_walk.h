// WalkRecords: every record of two copies that can still be read, once, in the order of
// keys. Damage in one copy is bridged by the other; where both are damaged it goes on
// behind.
//
// Threads  safe.
// Errors   kUnavailable when the device fails; damage is counted, not an error.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
}  // namespace rocksdb

namespace passband {

struct RecordWalk {
  uint64_t records = 0;
  uint64_t damaged_a = 0;  // places where the copy could not be read
  uint64_t damaged_b = 0;
  uint64_t lost = 0;  // records that neither copy has whole, at least
};

// Keys in [begin, end). `visit` gets the key as stored (the kind first) and the record's
// value.
using RecordVisit = std::function<void(std::string_view record_key, std::string_view value)>;
StatusOr<RecordWalk> WalkRecords(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* a,
                                 rocksdb::ColumnFamilyHandle* b, const std::string& begin,
                                 const std::string& end, const RecordVisit& visit);

}  // namespace passband
