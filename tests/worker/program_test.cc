// Goal: the program says what is wrong and exits as documented; over a real
// server it generates what it generates over a store of its own, and it ends in
// time when that server dies.
#include "tests/support/program.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"
#include "tests/worker/books_world.h"

namespace passband {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

const std::string kModel = PASSBAND_BOOKS_MODEL;
const std::string kText = PASSBAND_BOOKS_MODEL "/held-out.txt";

using test::Outcome;

class Program : public test::Program {
 public:
  explicit Program(const std::string& arguments)
      : test::Program(std::string(PASSBAND_WORKER) + " " + arguments) {}
};

Outcome RunWorker(const std::string& arguments) { return Program(arguments + " 2>&1").Finish(); }

class TempFile {
 public:
  explicit TempFile(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  const std::string& path() const { return path_; }

 private:
  const test::TempFolder folder_;
  const std::string path_ = folder_ / "file";
};

std::string WithModel(const std::string& command, const std::string& rest) {
  return command + " --model " + kModel + " " + rest;
}

TEST(WorkerProgram, WrongUsageExitsWithTwo) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "subcommand"},
      {"eval --text " + kText, "--model"},
      {"generate --model /no/such/folder --prompt x", "/no/such/folder"},
      {WithModel("generate", "--method full"), "--prompt"},
      {WithModel("generate", "--prompt x --metrics 9462"), "give HOST:PORT"},
      {WithModel("generate", "--prompt x --metrics host:70000"), "give HOST:PORT"},
      {WithModel("generate", "--method full --prompt x --budget 60"), "4 sinks + 64 recent"},
      {WithModel("generate", "--method guess --prompt x"), "guess"},
      {WithModel("generate", "--method full --prompt x --keep-sequence"), "--server"},
      {WithModel("generate", "--method full --prompt x --embedded lots"), "lots"},
      {WithModel("generate", "--method full --prompt x --temperature -1"), "-1"},
      {WithModel("eval", "--method stream --text " + kText + " --budget 67"), "budget 67"},
      {WithModel("eval", "--method flash --text " + kText), "flash"},
      {WithModel("eval", "--task poems --method full --text " + kText), "poems"},
      {WithModel("eval", "--method full --documents 0 --text " + kText), "--documents"},
      {WithModel("generate", "--method fasa-c --prompt x"), "--device cuda"},
      {WithModel("generate", "--random-weights llama-3.1-8b --prompt x"), "or else"},
      {WithModel("generate", "--device cuda --method fasa-c --prompt x --keep-sequence"),
       "--method fasa-m"},
  };
  for (const auto& [arguments, names] : cases) {
    const Outcome outcome = RunWorker(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(names)) << arguments;
  }
}

TEST(WorkerProgram, WithoutAGpuItSaysWhatIsMissing) {
  const Outcome outcome =
      RunWorker(WithModel("generate", "--device cuda --prompt x --max-tokens 1"));
  if (outcome.code == 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_EQ(outcome.code, 1) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("CUDA"));
  EXPECT_THAT(outcome.output, HasSubstr("--device cpu"));
}

TEST(WorkerProgram, BadFilesExitWithOne) {
  const TempFile empty("");
  const TempFile broken("{\"schema\": \"passband.profile/v1\", ");
  EXPECT_EQ(RunWorker(WithModel("eval", "--method full --text " + empty.path())).code, 1);
  EXPECT_EQ(RunWorker(WithModel("generate", "--method full --prompt-file " + empty.path())).code,
            1);
  const Outcome profile = RunWorker(WithModel("generate", "--prompt x --profile " + broken.path()));
  EXPECT_EQ(profile.code, 1) << profile.output;
}

TEST(WorkerProgram, AProfileOfAnotherModelIsRefused) {
  const auto model = LlamaModel::Load(kModel);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto profile = testing::RandomProfile(**model, 3);
  profile->fingerprint.weights = std::string(64, 'a');
  ASSERT_TRUE(profile->Finish().ok());
  const TempFile file(profile->ToJson());
  const Outcome outcome = RunWorker(WithModel("generate", "--prompt x --profile " + file.path()));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("aaaaaaaa"));
}

TEST(WorkerProgram, ACorruptCheckpointIsRefused) {
  const test::TempFolder temporary;
  const std::string& folder = temporary.path();
  ASSERT_EQ(std::system(("cp " + kModel + "/config.json " + folder + " && head -c 100000 " +
                         kModel + "/model.safetensors > " + folder + "/model.safetensors")
                            .c_str()),
            0);
  const Outcome outcome = RunWorker("generate --method full --prompt x --model " + folder);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("model.safetensors"));
}

TEST(WorkerProgram, NoServerExitsWithThree) {
  const Outcome outcome =
      RunWorker(WithModel("generate", "--method full --prompt x --server 127.0.0.1:1"));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr("127.0.0.1:1"));
}

TEST(WorkerProgram, EvalPrintsJsonAndNothingElse) {
  const Outcome outcome = Program(WithModel("eval",
                                            "--task needle,books --method full,stream "
                                            "--budget 80,128 --keys 2 --context 704 --documents 1 "
                                            "--json --text " +
                                                kText + " 2>/dev/null"))
                              .Finish();
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  const Json json = Json::parse(outcome.output);
  EXPECT_EQ(json["schema"], "passband.eval/v1");
  EXPECT_EQ(json["results"].size(), 6U);
  for (const Json& result : json["results"]) {
    EXPECT_EQ(result["tokens"], 640);
    EXPECT_GT(result["bits_per_byte"], 0);
  }
}

class WithServer : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started =
        test::ServerProcess::Start({.binary = PASSBAND_SERVER, .flags = {"--ram", "128MiB"}});
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    const auto model = LlamaModel::Load(kModel);
    ASSERT_TRUE(model.ok()) << model.status();
    profile_ = std::make_unique<TempFile>(testing::RandomProfile(**model, 4)->ToJson());
    prompt_ = std::make_unique<TempFile>(ReadTextFile(kText)->substr(5000, 900));
  }

  std::string Generate(const std::string& rest) const {
    return WithModel("generate", "--budget 128 --prompt-file " + prompt_->path() + " --profile " +
                                     profile_->path() + " " + rest);
  }

  std::unique_ptr<test::ServerProcess> server_;
  std::unique_ptr<TempFile> profile_, prompt_;
};

Json Output(const std::string& arguments) {
  const Outcome outcome = Program(arguments + " --json 2>/dev/null").Finish();
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  const Json json = Json::parse(outcome.output, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << outcome.output;
  return json;
}

TEST_F(WithServer, SaysWhatTheEmbeddedStoreSays) {
  const std::string remote = "--server " + server_->control_address();
  for (const std::string method : {"--method fasa", "--method full"}) {
    const Json here = Output(Generate(method + " --max-tokens 48"));
    const Json there = Output(Generate(method + " --max-tokens 48 " + remote));
    EXPECT_EQ(here["transport"], "embedded");
    EXPECT_NE(there["transport"], "embedded");
    EXPECT_EQ(here["outputs"][0]["tokens"], there["outputs"][0]["tokens"]) << method;
    EXPECT_EQ(here["outputs"][0]["tokens"].size(), 48U);
    // What is fetched differs a little: rows stay in the tail until they are stored.
    EXPECT_EQ(here["full_attention_bytes_per_token"], there["full_attention_bytes_per_token"]);
  }
}

TEST_F(WithServer, AKeptSequenceIsAPrefixForTheNextWorker) {
  const std::string remote = "--server " + server_->control_address();
  const Json first = Output(Generate("--max-tokens 4 --keep-sequence " + remote));
  EXPECT_EQ(first["outputs"][0]["attached_tokens"], 0);
  const Json second = Output(Generate("--max-tokens 4 " + remote));
  EXPECT_EQ(second["outputs"][0]["attached_tokens"], 896);
  EXPECT_EQ(first["outputs"][0]["tokens"], second["outputs"][0]["tokens"]);
}

TEST_F(WithServer, ADeadServerEndsTheWorkerWithinThreeSeconds) {
  const TempFile errors("");
  Program worker(
      Generate("--max-tokens 7000 --server " + server_->control_address() + " 2>" + errors.path()));
  for (int byte = 0; byte < 20; ++byte) ASSERT_NE(worker.Next(), EOF);
  server_->Kill();
  const auto killed = std::chrono::steady_clock::now();
  const Outcome outcome = worker.Finish();
  const auto took = std::chrono::steady_clock::now() - killed;
  EXPECT_EQ(outcome.code, 3);
  EXPECT_LT(took, std::chrono::seconds(3));
  EXPECT_THAT(*ReadTextFile(errors.path()), HasSubstr("passband-worker: "));
}

}  // namespace
}  // namespace passband
