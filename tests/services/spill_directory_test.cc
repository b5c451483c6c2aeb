// Goal: a spill directory that a server cannot use, and a quota that lets nobody in, are said in
// words that help whoever typed the command, with the exit code that --help names.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/units.h"
#include "gmock/gmock.h"
#include "tests/services/durable_server_fixture.h"
#include "tests/services/server_command.h"
#include "tests/support/mounts.h"

namespace passband::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kDiskBytes = 64 * kMiB;

std::string Flags(const std::string& directory) {
  return "--ram 8MiB --staging 4MiB --huge-pages=off --spill-limit 64MiB --spill-dir '" +
         directory + "'";
}

void ExpectRefused(const std::string& directory, const std::string& why, const std::string& advice,
                   int code = 1) {
  const test::Outcome outcome = RunServer(Flags(directory));
  EXPECT_EQ(outcome.code, code) << outcome.output;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("passband-server cannot start: --spill-dir"),
                                    HasSubstr(directory), HasSubstr(why), HasSubstr(advice)));
}

void WriteMarker(const test::TempFolder& folder, const std::string& text) {
  std::ofstream(folder / "PASSBAND-SPILL") << text;
}

TEST(SpillDirectoryStart, OneThatIsMissingIsToBeCreated) {
  const test::TempFolder folder;
  ExpectRefused(folder / "missing", "No such file or directory",
                "Create the directory, or name another with --spill-dir");
  EXPECT_FALSE(std::filesystem::exists(folder / "missing"));
}

TEST(SpillDirectoryStart, AFileIsNone) {
  const test::TempFolder folder;
  std::ofstream(folder / "file") << "text";
  ExpectRefused(folder / "file", "is not a directory", "name one with --spill-dir");
}

TEST(SpillDirectoryStart, SomebodyElsesFilesAreLeftAlone) {
  const test::TempFolder folder;
  std::ofstream(folder / "thesis.tex") << "text";
  ExpectRefused(folder.path(), "it holds 'thesis.tex'", "Name an empty directory");
  EXPECT_FALSE(std::filesystem::exists(folder / "OWNER"));
  EXPECT_FALSE(std::filesystem::exists(folder / "PASSBAND-SPILL"));
}

TEST(SpillDirectoryStart, AnotherVersionsIsNamed) {
  const test::TempFolder folder;
  WriteMarker(folder, "passband spill directory\nformat 99\nwhole\n");
  ExpectRefused(folder.path(), "written in format 99, this program reads format 1",
                "name another directory, or remove this one's files");
}

TEST(SpillDirectoryStart, ADamagedMarkerIsToBeWrittenAgain) {
  const test::TempFolder folder;
  WriteMarker(folder, "passband spill dir");
  ExpectRefused(folder.path(), "PASSBAND-SPILL is damaged", "write to it the lines");
}

TEST(SpillDirectoryStart, OneThatCannotBeWrittenNeedsAccess) {
  const test::TempFolder folder;
  if (::geteuid() != 0) {
    ASSERT_EQ(::chmod(folder.path().c_str(), 0500), 0);
    ExpectRefused(folder.path(), "Permission denied", "Give the server's user write access");
    return;
  }
  if (const Status own = test::OwnMounts(); !own.ok()) GTEST_SKIP() << own;
  const auto disk = test::SmallDisk::Mount(folder.path(), kDiskBytes);
  ASSERT_TRUE(disk.ok()) << disk.status();
  ASSERT_EQ(::mount("none", folder.path().c_str(), "", MS_REMOUNT | MS_RDONLY, ""), 0);
  ExpectRefused(folder / "spill", "Read-only file system", "Give the server's user write access");
}

TEST(SpillDirectoryStart, AFullDiskNeedsSpace) {
  const test::TempFolder folder;
  if (const Status own = test::OwnMounts(); !own.ok()) GTEST_SKIP() << own;
  const auto disk = test::SmallDisk::Mount(folder.path(), kDiskBytes);
  ASSERT_TRUE(disk.ok()) << disk.status();
  ASSERT_TRUE((*disk)->Fill().ok());
  ExpectRefused(folder / "spill", "No space left on device", "Free space on the device");
  ASSERT_TRUE((*disk)->Free().ok());
  const auto server =
      test::ServerProcess::Start({.binary = PASSBAND_SERVER,
                                  .flags = {"--ram", "8MiB", "--staging", "4MiB", "--spill-limit",
                                            "64MiB", "--spill-dir", folder / "spill"}});
  EXPECT_TRUE(server.ok()) << server.status();
}

TEST(SpillDirectoryStart, ALimitOfNothingIsAFaultOfUsage) {
  const test::TempFolder folder;
  for (const char* limit : {"0", "1KiB", "-1GiB", "much"}) {
    const test::Outcome outcome =
        RunServer("--spill-dir " + folder.path() + " --spill-limit=" + limit);
    EXPECT_EQ(outcome.code, 2) << limit << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("--spill-limit")) << limit;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SpillDirectoryStart, HelpNamesTheExitCodes) {
  const test::Outcome outcome = RunServer("--help");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.output, HasSubstr("Exit codes: 0 stopped as asked, 1 cannot start, 2 wrong "
                                        "usage."));
}

class SpillDirectoryInUse : public DurableServerTest {};

TEST_F(SpillDirectoryInUse, AnotherServersIsLeftToIt) {
  Register();
  const uint64_t sequence = Open();
  ASSERT_TRUE(Fill(sequence, 1, 100).ok());
  ExpectRefused(folder_.path(), "pid " + std::to_string(server_->pid()),
                "stop it, or name another directory");
  EXPECT_TRUE(Seal(sequence).ok());
  EXPECT_TRUE(Check(sequence, 1, 100).ok());
}

// What was sealed is not in danger: it is back once there is room.
TEST_F(SpillDirectoryInUse, AFullDiskAtARestartCostsNothing) {
  const test::TempFolder folder;
  if (const Status own = test::OwnMounts(); !own.ok()) GTEST_SKIP() << own;
  const auto disk = test::SmallDisk::Mount(folder.path(), kDiskBytes);
  ASSERT_TRUE(disk.ok()) << disk.status();
  RunOn(folder / "spill");
  Register();
  const uint64_t sequence = Open();
  ASSERT_TRUE(Fill(sequence, 1, 1000).ok());
  ASSERT_TRUE(Seal(sequence).ok());
  EXPECT_EQ(server_->Stop(), 0);
  client_.reset();
  server_.reset();
  ASSERT_TRUE((*disk)->Fill().ok());
  ExpectRefused(folder / "spill", "No space left on device", "Free space on the device");
  ASSERT_TRUE((*disk)->Free().ok());
  RunOn(folder / "spill");
  EXPECT_TRUE(Check(sequence, 1, 1000).ok()) << Check(sequence, 1, 1000);
  server_.reset();
}

TEST_F(SpillDirectoryInUse, AQuotaOfNoBytesRefusesRowsWithItsReason) {
  Run({"--tenant-bytes", "0"});
  Register();
  const uint64_t sequence = Open();
  const RawReply reply =
      client_->Append(sequence, 0, 0, 64, kKvHeads, kRowBytes, TestRows(1, 0, 0, 64));
  EXPECT_EQ(reply.status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(reply.status), HasSubstr("quota"));
}

TEST_F(SpillDirectoryInUse, AQuotaOfNoSequencesRefusesOpensWithItsReason) {
  Run({"--tenant-sequences", "0"});
  Register();
  v1::OpenSequenceRequest request;
  request.set_model(TestModel().fingerprint());
  v1::OpenSequenceResponse response;
  const auto status = client_->stub().OpenSequence(client_->Context().get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("tenant"), Not(HasSubstr("-1"))));
}

}  // namespace
}  // namespace passband::testing
