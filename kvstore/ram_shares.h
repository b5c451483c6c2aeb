// RamShares: how much RAM each tenant's blocks take, and whose leave first.
//
// A tenant pays for every block of its own that is in RAM, once, whoever of its sequences shares
// it, and for what only the prefix index remembers, too: it takes RAM all the same. Blocks are
// never shared between tenants.
//
// The RAM in use is split evenly among the tenants that used some lately; what one leaves of its
// part goes to the others. One that has more than its share pays: its blocks leave first, and
// while it does, no allocation of its own takes RAM from those within theirs. Whoever has used
// nothing for some turns of the arena has no share, nor has anybody one beyond his quota of bytes.
// Someone always pays: shares are reckoned so that they leave a 16th of the RAM in use to be paid.
//
// Tenants are told apart by slots. Those beyond kSlots share the first one, as if one tenant.
//
// Units    bytes; ticks of BlockHome.
// Threads  safe. Counting and Pays are a few relaxed atomics; the rest takes a leaf mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"

namespace passband {

using TenantSlot = uint16_t;

class RamShares {
 public:
  static constexpr TenantSlot kRest = 0;
  static constexpr size_t kSlots = 1024;
  static constexpr uint32_t kActiveTicks = 64;
  static constexpr uint64_t kNoLimit = ~uint64_t{0};

  RamShares();

  // A slot for a tenant that may have `limit` bytes; kRest when there is none left.
  TenantSlot Take(std::optional<uint64_t> limit);
  // Of a tenant without blocks.
  void Give(TenantSlot slot);

  void AddBlocks(TenantSlot slot, int64_t count) { At(slot).blocks.fetch_add(count, kRelaxed); }
  void AddRam(TenantSlot slot, int64_t bytes) {
    At(slot).ram.fetch_add(bytes, kRelaxed);
    if (bytes < 0) left_.fetch_add(-bytes, kRelaxed);
  }
  // Of what is in RAM, with a copy below.
  void AddClean(TenantSlot slot, int64_t bytes) { At(slot).clean.fetch_add(bytes, kRelaxed); }
  void NoteUse(TenantSlot slot, uint32_t tick) { At(slot).used.store(tick, kRelaxed); }

  // It has more than its share.
  bool Pays(TenantSlot slot) const {
    const Tenant& tenant = At(slot);
    return Bytes(tenant.ram) > tenant.share.load(kRelaxed);
  }
  uint64_t ram_bytes(TenantSlot slot) const { return Bytes(At(slot).ram); }
  bool has_blocks(TenantSlot slot) const { return At(slot).blocks.load(kRelaxed) > 0; }

  // Reckons the shares anew if much has changed; before any use of Pays that matters.
  void Refresh(uint32_t tick);
  // What those who pay have in RAM: with a copy below, and without.
  struct Payable {
    uint64_t clean = 0;
    uint64_t dirty = 0;
  };
  Payable payable() const;

  // The level to which `use` must be cut for `total` to be left; kNoLimit when it is no more.
  static uint64_t Level(std::vector<uint64_t> use, uint64_t total);

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  struct alignas(64) Tenant {
    std::atomic<int64_t> ram{0};
    std::atomic<int64_t> clean{0};
    std::atomic<int64_t> blocks{0};
    std::atomic<uint64_t> share{kNoLimit};
    uint64_t limit = kNoLimit;  // under the mutex
    std::atomic<uint32_t> used{0};
    bool taken = false;  // under the mutex
  };

  static uint64_t Bytes(const std::atomic<int64_t>& count) {
    const int64_t bytes = count.load(kRelaxed);
    return bytes < 0 ? 0 : static_cast<uint64_t>(bytes);
  }
  Tenant& At(TenantSlot slot) { return tenants_[slot]; }
  const Tenant& At(TenantSlot slot) const { return tenants_[slot]; }
  void Reckon(uint32_t tick) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::unique_ptr<Tenant[]> tenants_;
  std::atomic<int64_t> left_{0};  // bytes that left RAM
  mutable Mutex mutex_;           // a leaf
  std::vector<TenantSlot> taken_ ABSL_GUARDED_BY(mutex_);
  std::vector<TenantSlot> free_ ABSL_GUARDED_BY(mutex_);
  bool changed_ ABSL_GUARDED_BY(mutex_) = true;
  uint32_t reckoned_tick_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t reckoned_left_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t reckon_again_ ABSL_GUARDED_BY(mutex_) = 0;  // after so many bytes left
};

}  // namespace passband
