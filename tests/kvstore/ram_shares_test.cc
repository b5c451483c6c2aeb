// Goal: who pays is who has more than an even split leaves him, whatever the others do; someone
// always pays, and nobody within an even split does.
#include "kvstore/ram_shares.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

namespace passband {
namespace {

TEST(RamSharesTest, WhatOneLeavesGoesToTheOthers) {
  EXPECT_EQ(RamShares::Level({10, 40, 50}, 90), 40u);
  EXPECT_EQ(RamShares::Level({10, 20, 70}, 90), 60u);
  EXPECT_EQ(RamShares::Level({10, 20, 70}, 100), RamShares::kNoLimit);
  EXPECT_EQ(RamShares::Level({}, 0), RamShares::kNoLimit);
  EXPECT_EQ(RamShares::Level({5, 5}, 9), 4u);
}

TEST(RamSharesTest, AQuotaOfBytesIsTheMostThatAShareCanBe) {
  RamShares shares;
  const TenantSlot a = shares.Take(10);
  const TenantSlot b = shares.Take({});
  shares.AddRam(a, 20);
  shares.AddRam(b, 15);
  shares.Refresh(1);
  EXPECT_TRUE(shares.Pays(a));
  EXPECT_FALSE(shares.Pays(b));
}

TEST(RamSharesTest, WhoUsesNothingForLongHasNoShare) {
  RamShares shares;
  const TenantSlot idle = shares.Take({});
  const TenantSlot busy = shares.Take({});
  shares.AddRam(idle, 10);
  shares.AddRam(busy, 1000);
  shares.NoteUse(busy, RamShares::kActiveTicks);
  shares.Refresh(RamShares::kActiveTicks);
  EXPECT_FALSE(shares.Pays(idle));
  shares.Refresh(RamShares::kActiveTicks + 1);
  EXPECT_TRUE(shares.Pays(idle));
  EXPECT_TRUE(shares.Pays(busy));
  shares.NoteUse(idle, RamShares::kActiveTicks + 2);
  shares.Refresh(RamShares::kActiveTicks + 2);
  EXPECT_FALSE(shares.Pays(idle));
}

TEST(RamSharesTest, TenantsBeyondTheSlotsShareOne) {
  RamShares shares;
  std::vector<TenantSlot> slots;
  for (size_t i = 1; i < RamShares::kSlots; ++i) slots.push_back(shares.Take({}));
  EXPECT_EQ(std::count(slots.begin(), slots.end(), RamShares::kRest), 0);
  EXPECT_EQ(shares.Take({}), RamShares::kRest);
  shares.Give(RamShares::kRest);
  EXPECT_EQ(shares.Take({}), RamShares::kRest);
  shares.Give(slots[7]);
  EXPECT_EQ(shares.Take({}), slots[7]);
}

struct ModelTenant {
  uint64_t ram = 0;
  uint64_t limit = RamShares::kNoLimit;
  uint32_t used = 0;
};

// What the ones that have most must give up, taken from them a byte at a time.
std::map<TenantSlot, uint64_t> SharesOf(const std::map<TenantSlot, ModelTenant>& tenants,
                                        uint32_t tick) {
  std::map<TenantSlot, uint64_t> kept;
  uint64_t total = 0;
  for (const auto& [slot, tenant] : tenants) {
    if (tick - tenant.used > RamShares::kActiveTicks) continue;
    kept[slot] = std::min(tenant.ram, tenant.limit);
    total += tenant.ram;
  }
  uint64_t sum = 0;
  for (const auto& [slot, bytes] : kept) sum += bytes;
  const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
  uint64_t level = RamShares::kNoLimit;
  for (; sum > total - total / 16; --sum) {
    auto& most = *std::max_element(kept.begin(), kept.end(), less);
    level = --most.second;
  }
  std::map<TenantSlot, uint64_t> shares;
  for (const auto& [slot, tenant] : tenants) {
    const bool active = kept.contains(slot);
    shares[slot] = active ? std::min(level, tenant.limit) : 0;
  }
  return shares;
}

TEST(RamSharesTest, AgreesWithTakingFromWhoHasMost) {
  std::mt19937_64 random(20261125);
  for (int round = 0; round < 200; ++round) {
    RamShares shares;
    std::map<TenantSlot, ModelTenant> model;
    uint32_t tick = 0;
    for (int step = 0; step < 60; ++step) {
      const uint64_t what = random() % 10;
      if (model.empty() || (what == 0 && model.size() < 6)) {
        const uint64_t limit = random() % 3 == 0 ? random() % 200 : RamShares::kNoLimit;
        model[shares.Take(limit)].limit = limit;
        continue;
      }
      auto at = std::next(model.begin(), static_cast<ptrdiff_t>(random() % model.size()));
      if (what < 6) {
        const uint64_t more = random() % 100;
        shares.AddRam(at->first, static_cast<int64_t>(more));
        shares.NoteUse(at->first, tick);
        at->second.ram += more;
        at->second.used = tick;
      } else if (what < 8) {
        const uint64_t less = at->second.ram == 0 ? 0 : random() % at->second.ram;
        shares.AddRam(at->first, -static_cast<int64_t>(less));
        at->second.ram -= less;
      } else {
        tick += 1 + static_cast<uint32_t>(random() % 20);
      }
      shares.Refresh(++tick);
      const std::map<TenantSlot, uint64_t> expected = SharesOf(model, tick);
      uint64_t total = 0;
      size_t active = 0;
      for (const auto& [slot, tenant] : model) {
        EXPECT_EQ(shares.ram_bytes(slot), tenant.ram);
        EXPECT_EQ(shares.Pays(slot), tenant.ram > expected.at(slot))
            << "round " << round << " step " << step << " slot " << slot;
        if (tick - tenant.used > RamShares::kActiveTicks) continue;
        total += tenant.ram;
        ++active;
      }
      bool someone = false;
      for (const auto& [slot, tenant] : model) {
        if (tick - tenant.used > RamShares::kActiveTicks) continue;
        someone = someone || shares.Pays(slot);
        if (tenant.ram <= tenant.limit && tenant.ram <= (total - total / 16) / active) {
          EXPECT_FALSE(shares.Pays(slot)) << "within an even split";
        }
      }
      EXPECT_TRUE(someone || total < 16) << "round " << round << " step " << step;
    }
  }
}

}  // namespace
}  // namespace passband
