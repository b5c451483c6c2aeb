// Goal: whatever a flush made safe is back with its bytes after the process was killed in
// the midst of writing; the rest is right or not there; and two processes never share a
// database.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <sstream>

#include "kvstore/spill_database.h"
#include "kvstore/spill_verify.h"
#include "tests/kvstore/spill_support.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using test::PutBlocks;
using test::SmallSpill;

// A spill_writer, and the lines that it has printed.
class Writer {
 public:
  Writer(const std::string& folder, uint64_t first) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::string program = PASSBAND_SPILL_WRITER;
    std::string directory = folder;
    std::string number = std::to_string(first);
    char* arguments[] = {program.data(), directory.data(), number.data(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    read_fd_ = ends[0];
  }
  ~Writer() { Kill(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  pid_t pid() const { return pid_; }
  // Until it has printed `lines` lines. False: it ended before.
  bool Await(size_t lines) {
    while (printed_ < lines) {
      if (!ReadSome()) return false;
    }
    return true;
  }
  // And what it had printed until then.
  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (ReadSome()) continue;
    ::waitpid(pid_, nullptr, 0);
    ::close(read_fd_);
    pid_ = -1;
  }
  PutBlocks Safe() const {
    PutBlocks safe;
    std::istringstream lines(text_.substr(0, text_.rfind('\n') + 1));
    std::string ready;
    lines >> ready;
    uint64_t seed = 0;
    BlockAddress address;
    while (lines >> seed >> address.generation >> address.number) safe.emplace(seed, address);
    return safe;
  }

 private:
  bool ReadSome() {
    char buffer[4096];
    const ssize_t got = ::read(read_fd_, buffer, sizeof(buffer));
    if (got <= 0) return false;
    text_.append(buffer, static_cast<size_t>(got));
    printed_ += static_cast<size_t>(std::count(buffer, buffer + got, '\n'));
    return true;
  }

  pid_t pid_ = -1;
  int read_fd_ = -1;
  std::string text_;
  size_t printed_ = 0;
};

TEST(SpillCrashTest, WhatWasFlushedIsBackAfterKillNine) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const test::TempFolder folder;
  PutBlocks safe;
  for (int round = 0; round < 8; ++round) {
    Writer writer(folder.path(), static_cast<uint64_t>(round) * 1'000'000);
    ASSERT_TRUE(writer.Await(2 + random() % 400)) << "the writer gave up";
    writer.Kill();
    // Its capacity holds more than all rounds write, so nothing is dropped.
    for (const auto& [number, address] : writer.Safe()) {
      for (const auto& [other, taken] : safe) ASSERT_NE(address, taken) << number << other;
    }
    safe.merge(writer.Safe());

    const auto report = VerifySpill({.directory = folder.path()});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->damaged_blocks, 0u) << report->findings[0];
    for (const auto& [number, address] : safe) EXPECT_TRUE(report->Holds(address)) << number;

    const auto spill = test::OpenSpill(SmallSpill(folder.path()));
    ASSERT_NE(spill, nullptr);
    EXPECT_FALSE(spill->losses().any());
    test::ClaimBlocks(spill->tier(), safe);
    const test::ReadCounts counts = test::ReadBlocks(spill->tier(), safe);
    ASSERT_EQ(counts.hits, safe.size()) << "round " << round;
    // What came after: numbers that were never told.
    const BlockAddress last = safe.rbegin()->second;
    for (uint64_t i = 1; i < 100; ++i) {
      const BlockAddress untold{last.generation, last.number + i};
      spill->tier().Claim(untold);
      test::Bytes got(test::kSpillBlockBytes);
      const auto hit = spill->tier().Get(untold, test::kSpillPlanes, 0xf, got);
      ASSERT_TRUE(hit.ok()) << hit.status();
    }
  }
  EXPECT_GT(safe.size(), 100u);
}

TEST(SpillCrashTest, ADatabaseOfAnotherProcessIsRefusedUntilThatIsGone) {
  const test::TempFolder folder;
  Writer writer(folder.path(), 0);
  ASSERT_TRUE(writer.Await(1));
  const std::string pid = "pid " + std::to_string(writer.pid());
  const Status status = SpillDatabase::Open(SmallSpill(folder.path())).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.ToString().find(pid), std::string::npos) << status;
  writer.Kill();
  EXPECT_TRUE(SpillDatabase::Open(SmallSpill(folder.path())).ok());
}

}  // namespace
}  // namespace passband
