// StoreRestartTest: a store over a tier and a catalog that outlive it, and what tests of its
// restarts share: sequences whose every byte tells where it belongs.
//
// Threads  one.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/memory_catalog.h"
#include "tests/kvstore/memory_tier.h"

namespace passband::test {

inline constexpr char kTenant[] = "ann";
inline constexpr KvShape kShape{.layers = 2, .kv_heads = 4, .row_bytes = 16};
inline const uint64_t kBlockBytes = kShape.block_bytes();  // 4 KiB

class StoreRestartTest : public testing::Test {
 protected:
  void SetUp() override { Start(); }

  void Start() {
    auto store =
        Store::Create({.arena = {.bytes = ram_blocks_ * kBlockBytes, .slab_bytes = kBlockBytes},
                       .tenant_quota = quota_,
                       .tier = tier_.get(),
                       .catalog = &catalog_,
                       .full_tier = full_tier_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  // Starts anew over an empty tier of so many blocks.
  void UseTier(uint64_t blocks, uint64_t of_a_generation) {
    store_.reset();
    tier_ = std::make_unique<MemoryTier>(blocks * kBlockBytes, of_a_generation * kBlockBytes);
    Start();
  }
  // As kill -9 would: nothing is told of it.
  void CrashAndStart() {
    catalog_.Freeze(true);  // what the destructor writes is too late
    store_.reset();
    catalog_.Freeze(false);
    tier_->Crash();
    Start();
  }
  void Register() {
    ASSERT_TRUE(store_
                    ->RegisterModel({.fingerprint = "m",
                                     .name = "Model",
                                     .shape = kShape,
                                     .detail = std::string("\0x", 2)})
                    .ok());
  }
  SequenceId Open(std::vector<uint32_t> ids = {}, const char* tenant = kTenant) {
    Register();
    const auto opened = store_->Open(
        {.tenant = tenant, .model = "m", .owner = OwnerId(1), .token_ids = std::move(ids)});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened->id;
  }
  static std::vector<uint32_t> Ids(uint64_t count, uint32_t salt) {
    std::vector<uint32_t> ids(count);
    for (uint64_t i = 0; i < count; ++i) ids[i] = static_cast<uint32_t>(i * 7 + salt);
    return ids;
  }
  static std::byte Mark(uint64_t salt, uint32_t layer, uint64_t token, uint32_t head) {
    return static_cast<std::byte>(salt * 31 + layer * 97 + token * 7 + head * 3 + 1);
  }
  void Append(SequenceId id, uint64_t first, uint64_t count, uint64_t salt,
              const char* tenant = kTenant) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      for (uint64_t t = first; t < first + count;) {
        const auto piece =
            static_cast<uint32_t>(std::min(first + count - t, kBlockTokens - t % kBlockTokens));
        auto slot = store_->BeginAppend(tenant, id, layer, t, piece);
        ASSERT_TRUE(slot.ok()) << slot.status();
        std::vector<std::byte> rows;
        for (uint32_t head = 0; head < kShape.kv_heads; ++head) {
          for (uint64_t row = t; row < t + piece; ++row) {
            rows.insert(rows.end(), kShape.row_bytes, Mark(salt, layer, row, head));
          }
        }
        slot->Scatter(rows.data());
        ASSERT_TRUE(slot->Commit().ok());
        t += piece;
      }
    }
  }
  Status Check(SequenceId id, uint64_t first, uint64_t count, uint64_t salt,
               const char* tenant = kTenant) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      PinnedRows rows;
      PASSBAND_RETURN_IF_ERROR(store_->ResolveRange(tenant, id, layer, first, count, rows));
      for (uint64_t i = 0; i < rows.rows().size(); ++i) {
        const std::vector<std::byte> row(kShape.row_bytes, Mark(salt, layer, first + i % count,
                                                                static_cast<uint32_t>(i / count)));
        if (std::memcmp(rows.rows()[i], row.data(), row.size()) != 0) {
          return Error(StatusCode::kInternal, "layer {} row {} is wrong", layer, i);
        }
      }
    }
    return OkStatus();
  }
  // Waits for it, for some seconds.
  static bool Eventually(const std::function<bool()>& true_now) {
    for (int i = 0; i < 4000 && !true_now(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true_now();
  }
  // Until the store's threads have done what was asked.
  void Settle() {
    for (int i = 0; i < 1000 && store_->Stats().seals_pending > 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    EXPECT_EQ(store_->Stats().seals_pending, 0u);
  }

  std::unique_ptr<MemoryTier> tier_ = std::make_unique<MemoryTier>(64 * kMiB, 64 * kKiB);
  uint64_t ram_blocks_ = 64;
  MemoryCatalog catalog_;
  TenantQuota quota_;
  FullTierPolicy full_tier_ = FullTierPolicy::kDropOldest;
  std::unique_ptr<Store> store_;
};

}  // namespace passband::test
