// Catalog: what must survive a restart beside the bytes of blocks: small records by kind
// and key. What a record says is its writer's affair.
//
// Threads  safe. Calls may wait for I/O: make none with a lock of the store held.
// Errors   kDataLoss           a record is damaged (ForEach goes on with the next)
//          kResourceExhausted  the device is full
//          kUnavailable        the device fails
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace passband {

enum class RecordKind : uint8_t {
  kModel = 1,     // key: fingerprint
  kProfile = 2,   // key: digest
  kSequence = 3,  // key: id
  kColumn = 4,    // key: number
  kStore = 5,     // key: name of a fact about the store itself
  kLife = 6,      // key: id of a sequence
  kPrefix = 7,    // key: digest of the tokens up to a column's end
};

// Changes that are made together or not at all.
struct CatalogBatch {
  struct Change {
    RecordKind kind;
    std::string key;
    std::string value;
    bool erase = false;
  };
  std::vector<Change> changes;

  void Put(RecordKind kind, std::string key, std::string value) {
    changes.push_back({kind, std::move(key), std::move(value), false});
  }
  void Erase(RecordKind kind, std::string key) {
    changes.push_back({kind, std::move(key), {}, true});
  }
};

class Catalog {
 public:
  using Visit = std::function<void(std::string_view key, std::string_view value)>;

  virtual ~Catalog() = default;

  // On the device when it returns.
  virtual Status Write(const CatalogBatch& batch) = 0;
  // Every record of a kind, in the order of the keys' bytes. Returns how many were damaged
  // and left out.
  virtual StatusOr<uint64_t> ForEach(RecordKind kind, const Visit& visit) const = 0;
};

}  // namespace passband
