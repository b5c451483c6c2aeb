// Goal: `passband verify` says of a stopped server's directory what a server will find in it, and
// of everything that it cannot open why; it changes nothing.
#include <gmock/gmock.h>

#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/services/durable_server_fixture.h"
#include "tests/support/file_damage.h"
#include "tests/support/program.h"

namespace passband::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using test::Outcome;

constexpr uint64_t kTokens = 1000;

Outcome Verify(const std::string& directory, const std::string& more = "") {
  return test::Program(std::string(PASSBAND_CLI) + " verify --spill-dir '" + directory + "' " +
                       more + " 2>&1")
      .Finish();
}

// Of a directory that can be opened: what is printed on standard output.
Json VerifyJson(const std::string& directory, int code) {
  const Outcome outcome = test::Program(std::string(PASSBAND_CLI) + " verify --spill-dir '" +
                                        directory + "' --json 2>/dev/null")
                              .Finish();
  EXPECT_EQ(outcome.code, code) << outcome.output;
  Json json = Json::parse(outcome.output, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << outcome.output;
  EXPECT_EQ(json["schema"], "passband.verify/v1");
  EXPECT_EQ(json["whole"], code == 0);
  return json;
}

std::map<std::string, std::string> Contents(const std::string& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    out[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return out;
}

class VerifyTest : public DurableServerTest {
 protected:
  // Three sealed sequences, a profile, and a server that has stopped.
  void FillAndStop() {
    Register();
    RegisterProfile();
    for (uint64_t i = 0; i < 3; ++i) {
      sequences_.push_back(Open(std::vector<uint32_t>(kTokens, static_cast<uint32_t>(i))));
      const Status filled = Fill(sequences_.back(), i, kTokens);
      ASSERT_TRUE(filled.ok()) << filled;
      ASSERT_TRUE(Seal(sequences_.back()).ok());
    }
    EXPECT_EQ(server_->Stop(), 0);
    client_.reset();
  }
  // Tokens of which a row cannot be read, asked block by block; every other is as written.
  uint64_t LostTokens(uint64_t sequence, uint64_t salt) {
    uint64_t lost = 0;
    for (uint64_t first = 0; first < kTokens; first += kBlockTokens) {
      const auto count = static_cast<uint32_t>(std::min(kBlockTokens, kTokens - first));
      bool whole = true;
      for (uint16_t layer = 0; layer < kLayers; ++layer) {
        const RawReply reply = client_->Read(sequence, layer, first, count);
        whole &= reply.status.ok();
        if (reply.status.ok()) {
          EXPECT_EQ(reply.payload, TestRows(salt, layer, first, count));
        } else {
          EXPECT_EQ(reply.status.code(), StatusCode::kDataLoss) << reply.status;
        }
      }
      if (!whole) lost += count;
    }
    return lost;
  }
  // What a server finds is what `verified` says of each sequence.
  void ExpectFoundAs(const Json& verified) {
    Run();
    std::map<uint64_t, uint64_t> lost;
    for (const Json& hurt : verified["sequences"]["hurt"]) {
      lost[hurt["sequence"]] = hurt["lost_tokens"];
    }
    for (uint64_t i = 0; i < sequences_.size(); ++i) {
      EXPECT_EQ(LostTokens(sequences_[i], i), lost[sequences_[i]]) << i;
    }
  }
  std::string Victim() const {
    const std::vector<std::string> files = test::FilesOf(folder_.path(), ".sst");
    return *std::max_element(files.begin(), files.end(), [](const auto& a, const auto& b) {
      return std::filesystem::file_size(a) < std::filesystem::file_size(b);
    });
  }

  std::vector<uint64_t> sequences_;
};

TEST_F(VerifyTest, AWholeDirectoryIsWholeAndUnchanged) {
  FillAndStop();
  const auto before = Contents(folder_.path());
  const Json json = VerifyJson(folder_.path(), 0);
  constexpr uint64_t kBlocks = 3 * ((kTokens + 63) / 64) * kLayers;
  EXPECT_EQ(json["sequences"]["whole"], 3);
  EXPECT_EQ(json["sequences"]["damaged"], 0);
  EXPECT_EQ(json["sequences"]["lost"], 0);
  constexpr uint64_t kPrefixes = 3 * (kTokens / 64);
  EXPECT_EQ(json["prefixes"]["whole"], kPrefixes);
  EXPECT_EQ(json["prefixes"]["of_sealed_sequences"], kPrefixes);
  EXPECT_EQ(json["prefixes"]["damaged"], 0);
  EXPECT_EQ(json["prefixes"]["stale"], 0);
  EXPECT_EQ(json["blocks"]["missing"], 0);
  EXPECT_EQ(json["blocks"]["whole"], kBlocks + json["blocks"]["orphaned"].get<uint64_t>());
  EXPECT_EQ(json["blocks"]["bytes"], json["blocks"]["whole"].get<uint64_t>() * kBlockBytes);
  EXPECT_GT(json["records"]["whole"], 3);
  EXPECT_EQ(json["generations"], 1);
  EXPECT_TRUE(json["contents"].is_null());
  EXPECT_TRUE(json["findings"].empty()) << json["findings"];
  const Outcome text = Verify(folder_.path());
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output, AllOf(HasSubstr("all is whole"), HasSubstr("models: 1, profiles: 1"),
                                 HasSubstr("orphaned")));
  EXPECT_EQ(Contents(folder_.path()), before);
}

TEST_F(VerifyTest, PrefixesOfClosedSequencesAreToldFromSealedOnes) {
  Register();
  for (uint32_t i = 0; i < 2; ++i) {
    sequences_.push_back(Open(std::vector<uint32_t>(kTokens, i)));
    ASSERT_TRUE(Fill(sequences_.back(), i, kTokens).ok());
    ASSERT_TRUE(Seal(sequences_.back()).ok());
  }
  Close(sequences_.front());
  ASSERT_TRUE(Eventually([&] { return SealsPending() == 0; }));
  server_->Kill();
  client_.reset();
  const Json json = VerifyJson(folder_.path(), 0);
  constexpr uint64_t kColumns = kTokens / 64;
  EXPECT_EQ(json["sequences"]["whole"], 1);
  EXPECT_EQ(json["prefixes"]["whole"], 2 * kColumns);
  EXPECT_EQ(json["prefixes"]["of_sealed_sequences"], kColumns);
  EXPECT_THAT(Verify(folder_.path()).output, HasSubstr("15 also of sealed sequences; 0 stale"));
}

struct Damage {
  const char* name;
  void (*inflict)(const std::string& path, std::mt19937_64& random);
};

class DamagedBlocks : public VerifyTest, public ::testing::WithParamInterface<Damage> {};

TEST_P(DamagedBlocks, CostTheSequencesThatAServerMissesThemIn) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  FillAndStop();
  GetParam().inflict(Victim(), random);
  const Json json = VerifyJson(folder_.path(), 1);
  EXPECT_FALSE(json["findings"].empty());
  EXPECT_GT(json["blocks"]["missing"], 0);
  EXPECT_GT(json["sequences"]["damaged"], 0);
  EXPECT_EQ(json["sequences"]["whole"].get<int>() + json["sequences"]["damaged"].get<int>(), 3);
  const Outcome text = Verify(folder_.path());
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.output, AllOf(HasSubstr("tokens lost"), HasSubstr("is damaged; a server")));
  ExpectFoundAs(json);
}

// In what holds blocks, not in the file's index at its end.
void FlipAnEarlyBit(const std::string& path, std::mt19937_64& random) {
  test::FlipBitAt(path, random() % (std::filesystem::file_size(path) / 2), random());
}

INSTANTIATE_TEST_SUITE_P(Kinds, DamagedBlocks,
                         ::testing::Values(Damage{"Flipped", FlipAnEarlyBit},
                                           Damage{"Truncated", test::Truncate},
                                           Damage{"Missing", test::Remove}),
                         [](const auto& damage) { return std::string(damage.param.name); });

TEST_F(VerifyTest, WithoutATableOfContentsBlocksAreStillCounted) {
  FillAndStop();
  for (const std::string& file : test::FilesOf(folder_.path(), "MANIFEST")) {
    std::filesystem::remove(file);
  }
  const Json json = VerifyJson(folder_.path(), 1);
  EXPECT_TRUE(json["sequences"].is_null());
  EXPECT_TRUE(json["contents"].is_string());
  EXPECT_GE(json["blocks"]["whole"], 96);
  EXPECT_THAT(Verify(folder_.path()).output, HasSubstr("table of contents cannot be read"));
}

TEST_F(VerifyTest, ARunningServersDirectoryIsRefused) {
  const Outcome outcome = Verify(folder_.path());
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("pid " + std::to_string(server_->pid())), HasSubstr("stop it")));
  EXPECT_EQ(Verify(folder_.path(), "--json").code, 3);
}

TEST(VerifyCommand, WhatIsNoSpillDirectoryIsSaid) {
  const test::TempFolder empty, foreign, other, damaged;
  std::ofstream(foreign / "notes.txt") << "text";
  std::ofstream(other / "PASSBAND-SPILL") << "passband spill directory\nformat 99\nwhole\n";
  std::ofstream(damaged / "PASSBAND-SPILL") << "passband spill";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {empty.path(), "no server has spilled to it"},
      {empty / "missing", "Name the directory that a server spilled to"},
      {foreign / "notes.txt", "not a directory"},
      {foreign.path(), "it holds 'notes.txt'"},
      {other.path(), "was written in format 99, this program reads format 1"},
      {damaged.path(), "is damaged"},
  };
  for (const auto& [directory, says] : cases) {
    const Outcome outcome = Verify(directory);
    EXPECT_EQ(outcome.code, 3) << directory << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(says));
  }
  EXPECT_TRUE(Contents(empty.path()).empty()) << "wrote to an empty directory";
  EXPECT_EQ(Contents(foreign.path()).size(), 1U);
}

// A server that was killed before it had made its database.
TEST(VerifyCommand, ADirectoryThatWasNeverUsedHasNothingToLose) {
  const test::TempFolder folder;
  std::ofstream(folder / "PASSBAND-SPILL") << "passband spill directory\nformat 1\nstarted\n";
  const Json json = VerifyJson(folder.path(), 0);
  EXPECT_EQ(json["sequences"]["whole"], 0);
  EXPECT_EQ(json["blocks"]["whole"], 0);
}

TEST(VerifyCommand, WrongUsageExitsWithTwo) {
  for (const std::string arguments : {"verify", "verify --spill-dir", "verify --spill-dir a --x"}) {
    const Outcome outcome = test::Program("env -u PASSBAND_SPILL_DIR " + std::string(PASSBAND_CLI) +
                                          " " + arguments + " 2>&1")
                                .Finish();
    EXPECT_EQ(outcome.code, 2) << arguments << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("-")) << arguments;
  }
}

}  // namespace
}  // namespace passband::testing
