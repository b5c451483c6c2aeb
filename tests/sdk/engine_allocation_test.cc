// Goal: a step whose rows are all hot allocates nothing, and asks the service for
// nothing.
#include <atomic>
#include <cstdlib>
#include <new>

#include "gtest/gtest.h"
#include "tests/support/engine_world.h"

// Inlined, our operators look like a free() of what new gave.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace {

std::atomic<uint64_t> allocations{0};

void* Allocate(std::size_t bytes, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return Allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace passband::testing {
namespace {

TEST(EngineAllocationTest, AHotStepAllocatesNothing) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  Random random(seed);
  const EngineWorld world(random());
  MapKvService service;
  EngineOptions options;
  options.select = {.budget = 100, .sinks = 4, .recent = 20};
  const auto engine = world.MakeEngine(service, options);
  std::vector<Driven> driven(3);
  for (Driven& one : driven) {
    one.sequence = *engine->Open({});
    ASSERT_TRUE(one.Prefill(*engine, world, RandomIds(random, 1000), random).ok());
  }
  const std::vector<std::byte> rows = world.TokenRows(0, 1000, 7);
  const std::vector<float> queries = world.Queries(0, 1000, 7);
  std::vector<float> out(world.out_size());
  std::vector<StepItem> items;
  for (Driven& one : driven) {
    items.push_back({.sequence = one.sequence.get(),
                     .queries = queries.data(),
                     .new_rows = rows.data(),
                     .out = out.data()});
  }
  for (int step = 0; step < 5; ++step) {
    const uint64_t fetches = service.calls["StartFetch"];
    const uint64_t before = allocations.load();
    ASSERT_TRUE(engine->Step(0, items).ok());
    const uint64_t after = allocations.load();
    if (step > 1) {
      EXPECT_EQ(after - before, 0U) << "step " << step;
      EXPECT_EQ(service.calls["StartFetch"], fetches);
    }
    for (Driven& one : driven) ASSERT_TRUE(one.sequence->Truncate(1000).ok());
  }
}

}  // namespace
}  // namespace passband::testing
