// PinBudget: how much each tenant has pinned in RAM, and may pin.
//
// A block that several pinned sequences of a tenant share counts once. All tenants together may
// pin half of the arena: the other half is for those who have not.
//
// Units      bytes.
// Threads    safe; a leaf mutex.
// Ownership  outlives its tickets.
// Errors     kResourceExhausted, naming limit and use; then nothing has changed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/block.h"

namespace passband {

class PinBudget {
 public:
  struct Limits {
    uint64_t tenant = 0;  // of each; 0: nothing is pinned
    uint64_t all = 0;
  };

  // What one sequence takes of it; given back when it is destroyed. Whoever has it pins the
  // blocks longer than that: they are told apart by where they are.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)),
          tenant_(std::move(other.tenant_)),
          blocks_(std::move(other.blocks_)) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(tenant_, other.tenant_);
      std::swap(blocks_, other.blocks_);
      return *this;
    }
    ~Ticket() {
      if (budget_ != nullptr) budget_->Give(tenant_, blocks_);
    }

   private:
    friend class PinBudget;
    Ticket(PinBudget* budget, std::string tenant, std::vector<const Block*> blocks)
        : budget_(budget), tenant_(std::move(tenant)), blocks_(std::move(blocks)) {}
    PinBudget* budget_;
    std::string tenant_;
    std::vector<const Block*> blocks_;
  };

  explicit PinBudget(const Limits& limits) : limits_(limits) {}
  PinBudget(const PinBudget&) = delete;
  PinBudget& operator=(const PinBudget&) = delete;

  StatusOr<Ticket> Take(const std::string& tenant, const std::vector<BlockRef>& blocks);
  // Whether that would succeed now: to be asked before blocks are brought back for it.
  Status Check(const std::string& tenant, const std::vector<BlockRef>& blocks) const;

  uint64_t bytes() const;
  uint64_t pins() const;  // tickets

 private:
  using Holders = absl::flat_hash_map<const Block*, uint32_t>;
  struct Tenant {
    uint64_t bytes = 0;
    uint64_t pins = 0;
    Holders holders;
  };

  Status CheckLocked(const std::string& tenant, const std::vector<BlockRef>& blocks) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Give(const std::string& tenant, std::span<const Block* const> blocks);

  const Limits limits_;
  mutable Mutex mutex_;
  absl::btree_map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);  // with pins
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t pins_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace passband
