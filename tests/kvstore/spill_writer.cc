// spill_writer DIRECTORY FIRST: spills blocks of seeds FIRST, FIRST + 1, ... until it is
// killed. Prints "ready" once the database is open, and after each flush "seed generation
// number" of every block that the flush made safe.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/kvstore/spill_support.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto spill = passband::SpillDatabase::Open(passband::test::SmallSpill(argv[1]));
  if (!spill.ok()) {
    std::fprintf(stderr, "%s\n", spill.status().ToString().c_str());
    return 1;
  }
  std::printf("ready\n");
  std::fflush(stdout);
  std::mt19937_64 random(std::random_device{}());
  uint64_t next = std::strtoull(argv[2], nullptr, 10);
  for (;;) {
    passband::test::PutBlocks put;
    const uint64_t count = 1 + random() % 40;
    while (!passband::test::PutBlocksOf((*spill)->tier(), next, count - put.size(), put).ok()) {
      next = put.empty() ? next : put.rbegin()->first + 1;
      if (!(*spill)->tier().DropOldest().ok()) return 3;
    }
    next = put.rbegin()->first + 1;
    if (!(*spill)->tier().Flush().ok()) return 4;
    for (const auto& [seed, address] : put) {
      std::printf("%lu %lu %lu\n", seed, address.generation, address.number);
    }
    std::fflush(stdout);
  }
}
