// Goal: doctor tries things rather than reading limits, says what is wrong with a fix for each,
// exits as documented, and is quick.
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "tests/services/server_fixture.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using test::Outcome;

Outcome RunDoctor(const std::string& arguments, const std::string& launcher = "") {
  return test::Program(launcher + " " + PASSBAND_CLI + " doctor " + arguments + " 2>&1").Finish();
}

// By check.
std::map<std::string, Json> Findings(const std::string& arguments,
                                     const std::string& launcher = "") {
  const Outcome outcome =
      test::Program(launcher + " " + PASSBAND_CLI + " doctor --json " + arguments + " 2>/dev/null")
          .Finish();
  const Json json = Json::parse(outcome.output, nullptr, false);
  EXPECT_EQ(json.value("schema", ""), "passband.doctor/v1") << outcome.output;
  std::map<std::string, Json> findings;
  for (const Json& finding : json["findings"]) findings[finding["check"]] = finding;
  for (const auto& [check, finding] : findings) {
    const bool wrong = finding["verdict"] == "warn" || finding["verdict"] == "fail";
    EXPECT_EQ(finding["fix"].get<std::string>().empty(), !wrong) << finding;
    EXPECT_FALSE(finding["what"].get<std::string>().empty()) << finding;
    if (finding["verdict"] == "fail") {
      EXPECT_EQ(outcome.code, 1) << finding;
      EXPECT_EQ(json["ok"], false);
    }
  }
  return findings;
}

class DoctorProgram : public ServerTest {};

TEST(DoctorTest, LooksAtEverythingInTime) {
  const test::TempFolder folder;
  const auto start = std::chrono::steady_clock::now();
  auto findings = Findings("--ram 16MiB --lock 16MiB --spill-dir " + folder.path());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  for (const char* check :
       {"memory", "huge pages", "locked memory", "shared memory", "processors", "file descriptors",
        "clock", "UCX", "RDMA", "GPUDirect", "disk", "server"}) {
    EXPECT_TRUE(findings.contains(check)) << check;
  }
  EXPECT_EQ(findings["memory"]["verdict"], "pass") << findings["memory"];
  EXPECT_EQ(findings["UCX"]["verdict"], "pass") << findings["UCX"];
  EXPECT_THAT(findings["UCX"]["what"].get<std::string>(), HasSubstr("tcp"));
  EXPECT_THAT(findings["disk"]["verdict"], AnyOf("pass", "warn"));
  EXPECT_THAT(findings["disk"]["what"].get<std::string>(), HasSubstr("/s"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "left something on the disk";
}

TEST(DoctorTest, MemoryThatCannotBeLockedIsFound) {
  // Root may lock whatever the limit: then as nobody.
  const std::string user =
      ::getuid() == 0 ? "setpriv --reuid=65534 --regid=65534 --clear-groups" : "";
  auto findings = Findings("--lock 4MiB", "ulimit -l 64;" + user);
  EXPECT_EQ(findings["locked memory"]["verdict"], "warn");
  EXPECT_THAT(findings["locked memory"]["what"].get<std::string>(),
              HasSubstr("the limit is 64.00 KiB"));
  EXPECT_THAT(findings["locked memory"]["fix"].get<std::string>(), HasSubstr("LimitMEMLOCK"));
}

TEST(DoctorTest, WhatCannotWorkFails) {
  auto findings =
      Findings("--ram 900TiB --spill-dir /no/such/folder --net-devices pigeon0", "ulimit -n 200;");
  for (const char* check : {"memory", "disk", "interfaces"}) {
    EXPECT_EQ(findings[check]["verdict"], "fail") << findings[check];
  }
  EXPECT_THAT(findings["interfaces"]["what"].get<std::string>(), HasSubstr("no pigeon0 here"));
  EXPECT_EQ(Findings("--net-devices lo")["interfaces"]["verdict"], "pass");
  EXPECT_EQ(findings["file descriptors"]["verdict"], "warn");
  EXPECT_EQ(Findings("", "UCX_POSIX_SEG_SIZE=128k")["UCX"]["verdict"], "fail");
  EXPECT_EQ(Findings("", "UCX_TCP_TX_SEG_SIZE=64k")["UCX"]["verdict"], "warn");
}

TEST(DoctorTest, DoubtsFailOnlyWhenStrict) {
  const std::string doubtful = "--ram 16MiB --lock 1MiB";
  const std::string launcher = "ulimit -n 200;";
  const Outcome lenient = RunDoctor(doubtful, launcher);
  EXPECT_EQ(lenient.code, 0) << lenient.output;
  EXPECT_THAT(lenient.output, HasSubstr("fix: ulimit -n"));
  const Outcome strict = RunDoctor(doubtful + " --strict", launcher);
  EXPECT_EQ(strict.code, 1) << strict.output;
  EXPECT_THAT(strict.output, HasSubstr("doubtful"));
  EXPECT_EQ(RunDoctor("--ram lots").code, 2);
}

TEST_F(DoctorProgram, TheServerIsAskedAndRowsConnected) {
  auto findings = Findings("--ram 16MiB --server " + ControlAddress(*server_));
  EXPECT_EQ(findings["server"]["verdict"], "pass") << findings["server"];
  EXPECT_THAT(findings["server"]["what"].get<std::string>(), HasSubstr(kVersion));
  EXPECT_EQ(findings["rows"]["verdict"], "pass") << findings["rows"];
  EXPECT_THAT(findings["rows"]["what"].get<std::string>(), HasSubstr("shm"));
  const std::string address = ControlAddress(*server_);
  server_.reset();
  findings = Findings("--ram 16MiB --server " + address);
  EXPECT_EQ(findings["server"]["verdict"], "fail");
  EXPECT_FALSE(findings.contains("rows"));
}

}  // namespace
}  // namespace passband::testing
