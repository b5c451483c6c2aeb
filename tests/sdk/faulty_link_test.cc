// Goal: whatever a network loses, delays or repeats, and whatever a transfer says of itself,
// a client gets the right bytes or an error, in its time.
#include "tests/support/faulty_link.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "base/random.h"
#include "sdk/append_sender.h"
#include "sdk/control_client.h"
#include "sdk/grpc_link.h"
#include "sdk/remote_rows.h"
#include "sdk/ucx_link.h"
#include "tests/sdk/service_fixture.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kTokens = 640;
constexpr milliseconds kTimeout{250};
// What a machine that is busy with other tests may take beside.
constexpr seconds kSlack{5};
constexpr int kOperations = 400;

Time Now() { return std::chrono::steady_clock::now(); }

// A session whose rows travel through a FaultyLink. No RemoteService: that makes its own link.
class FaultyClient {
 public:
  FaultyClient(const std::string& server, Way way, uint64_t seed)
      : target_{server, {}, ""}, control_({target_, "", "faulty", seconds(5), seconds(5)}) {
    const auto session = control_.Connect();
    EXPECT_TRUE(session.ok()) << session.status();
    std::unique_ptr<DataLink> inside;
    if (way == Way::kGrpc) {
      inside = std::make_unique<GrpcLink>(target_, session->max_reply_bytes);
    } else {
      auto ucx = UcxLink::Create({.tls = way == Way::kTcp ? "tcp,self" : "posix,tcp,self"},
                                 session->data_address);
      EXPECT_TRUE(ucx.ok()) << ucx.status();
      inside = *std::move(ucx);
    }
    auto link = std::make_unique<FaultyLink>(std::move(inside), seed);
    link_ = link.get();
    auto channel = DataChannel::Connect(
        {.server = server,
         .session = {session->session, session->epoch, session->secret},
         .limits = {session->max_reply_bytes, session->max_rows, session->max_outstanding},
         // Requests that were dropped take places in the window until then.
         .lost_after = milliseconds(1500)},
        std::move(link));
    EXPECT_TRUE(channel.ok()) << channel.status();
    transfer_ = {.channel = *channel,
                 .pool = LandingPool::Create((*channel)->ucx(), {64 << 20, "landing_bytes"}),
                 .traffic = std::make_shared<TrafficCounters>(),
                 .timeout = kTimeout};
    AppendLane::Options lane{.retry_budget = milliseconds(100)};
    if (!(*channel)->ordered()) lane.window = 1;
    appends_ = std::make_unique<AppendSender>(
        **channel, LandingPool::Create((*channel)->ucx(), {64 << 20, "append_bytes"}),
        AppendSender::Options{.max_bytes = 16 << 20,
                              .send_timeout = kTimeout,
                              .room_timeout = kTimeout,
                              .flush_timeout = 4 * kTimeout,
                              .lane = lane});
  }
  ~FaultyClient() {
    transfer_.channel->EndCalls();
    control_.Disconnect(seconds(2)).IgnoreError();
    transfer_.channel->Close();
  }

  void Set(const FaultyLink::Chances& chances) {
    DataChannel::Lock lock(transfer_.channel->driver());
    link_->Set(chances);
  }
  void AddCounts(std::array<uint64_t, kLinkFaults>& counts) {
    DataChannel::Lock lock(transfer_.channel->driver());
    for (size_t i = 0; i < kLinkFaults; ++i) counts[i] += link_->Count(static_cast<LinkFault>(i));
  }
  bool broken() {
    DataChannel::Lock lock(transfer_.channel->driver());
    return !transfer_.channel->broken().ok();
  }
  const TransferOptions& transfer() const { return transfer_; }
  AppendSender& appends() { return *appends_; }

 private:
  const GrpcTarget target_;
  ControlClient control_;
  FaultyLink* link_ = nullptr;
  TransferOptions transfer_;
  std::unique_ptr<AppendSender> appends_;
};

class FaultyLinkTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    service_.Start(GetParam());
    if (HasFatalFailure()) return;
    ASSERT_TRUE(service_->RegisterModel(model_).ok());
    const auto opened = service_->Open({.model = model_.fingerprint.text(), .token_ids = {}});
    ASSERT_TRUE(opened.ok()) << opened.status();
    id_ = opened->id;
    const Status filled = AppendUpTo(*service_, model_, id_, rows_, kTokens, random_);
    ASSERT_TRUE(filled.ok()) << filled;
    Connect();
  }
  void TearDown() override { client_.reset(); }

  void Connect() {
    client_.reset();
    client_ =
        std::make_unique<FaultyClient>(service_.server()->control_address(), GetParam(), random_());
    client_->Set(chances_);
  }

  FaultyLink::Chances AllFaults() {
    FaultyLink::Chances out;
    for (double& chance : out.of) chance = 0.03;
    if (GetParam() == Way::kGrpc) {
      // A call and its reply are one there: sent again it would be another call, and the reply
      // comes with the end of it, or not at all.
      for (const LinkFault fault : {LinkFault::kRepeatRequest, LinkFault::kDropReply,
                                    LinkFault::kDelayReply, LinkFault::kRepeatReply}) {
        out[fault] = 0;
      }
    }
    return out;
  }

  Status Fetch() {
    const auto layer = static_cast<uint32_t>(random_() % model_.layers);
    const auto head = static_cast<uint32_t>(random_() % model_.kv_heads);
    std::vector<uint32_t> tokens(1 + random_() % 2000);
    for (uint32_t& token : tokens) token = static_cast<uint32_t>(random_() % kTokens);
    const FetchGroup group{id_, layer, head, tokens};
    const auto pending = StartRemoteFetch(
        client_->transfer(), {{&group, 1}, static_cast<uint32_t>(model_.head.row_bytes()), {}}, {});
    const auto got = pending->Wait();
    if (!got.ok()) return got.status();
    const size_t row_bytes = model_.head.row_bytes();
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto want = rows_.Row(layer, head, tokens[i]);
      const auto row = got->subspan(i * row_bytes, row_bytes);
      if (!std::equal(row.begin(), row.end(), want.begin(), want.end())) {
        ADD_FAILURE() << "wrong bytes in row " << i;
        break;
      }
    }
    return OkStatus();
  }

  Status Read() {
    const auto layer = static_cast<uint32_t>(random_() % model_.layers);
    const uint64_t first = random_() % kTokens;
    const uint64_t count = 1 + random_() % (kTokens - first);
    const auto pending =
        StartRemoteRange(client_->transfer(), {{id_, layer, first, count},
                                               model_.kv_heads,
                                               static_cast<uint32_t>(model_.head.row_bytes()),
                                               std::nullopt});
    const auto got = pending->Wait();
    if (!got.ok()) return got.status();
    const auto want = rows_.Range(layer, first, count);
    EXPECT_TRUE(std::equal(got->begin(), got->end(), want.begin(), want.end())) << "wrong bytes";
    return OkStatus();
  }

  // Appends a block in every layer; what fails is cut off again over the healthy connection.
  Status Append() {
    Status status;
    for (uint32_t layer = 0; layer < model_.layers && status.ok(); ++layer) {
      const auto block = rows_.Grow(layer, 64);
      status = client_->appends().Append(
          {id_, layer, kTokens, 64, block},
          {static_cast<uint16_t>(model_.kv_heads), static_cast<uint32_t>(model_.head.row_bytes())});
    }
    const Status flushed = client_->appends().Flush(id_);
    if (status.ok()) status = flushed;
    if (status.ok()) CheckAppended();
    CutOff();
    return status;
  }

  void CheckAppended() {
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      const auto pending = service_->StartRead({id_, layer, kTokens, 64});
      const auto got = pending->Wait();
      ASSERT_TRUE(got.ok()) << got.status();
      const auto want = rows_.Range(layer, kTokens, 64);
      EXPECT_TRUE(std::equal(got->begin(), got->end(), want.begin(), want.end()))
          << "wrong bytes were stored";
    }
  }

  void CutOff() {
    // What was given up may still arrive: first it must be over, or its connection.
    if (!client_->appends().AwaitAnswers(id_).ok()) Reconnect();
    ASSERT_TRUE(service_->Truncate(id_, kTokens).ok());
    client_->appends().Forget(id_);
    rows_.Truncate(kTokens);
  }

  void Reconnect() {
    client_->AddCounts(counts_);
    Connect();
    ++reconnects_;
  }

  const uint64_t seed_ = RandomU64();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const ModelInfo model_ = SmallModel();
  ExpectedRows rows_{model_, random_()};
  ServiceUnderTest service_;
  FaultyLink::Chances chances_;
  std::unique_ptr<FaultyClient> client_;
  SequenceId id_;
  std::array<uint64_t, kLinkFaults> counts_{};
  int reconnects_ = 0;
};

TEST_P(FaultyLinkTest, BytesAreRightAndDeadlinesKeptUnderEveryFault) {
  chances_ = AllFaults();
  client_->Set(chances_);
  int served = 0;
  std::map<StatusCode, int> failed;
  for (int i = 0; i < kOperations && !HasFailure(); ++i) {
    const Time start = Now();
    const uint64_t dice = random_() % 10;
    const Status status = dice < 5 ? Fetch() : dice < 8 ? Read() : Append();
    // A range of several windows has a deadline for each; an append, those of its flush and of
    // the answers that it waits for.
    EXPECT_LT(Now() - start, 8 * kTimeout + kSlack) << status;
    status.ok() ? ++served : ++failed[status.code()];
    if (client_->broken()) Reconnect();
  }
  client_->AddCounts(counts_);
  EXPECT_GT(served, kOperations / 4);
  for (size_t i = 0; i < kLinkFaults; ++i) {
    const auto fault = static_cast<LinkFault>(i);
    EXPECT_TRUE(chances_[fault] == 0 || counts_[i] > 0) << Name(fault);
  }
  for (const auto& [code, count] : failed) {
    EXPECT_TRUE(code == StatusCode::kDeadlineExceeded || code == StatusCode::kUnavailable ||
                code == StatusCode::kInternal)
        << count << " ended with " << code;
  }
}

TEST_P(FaultyLinkTest, RepliesThatComeTwiceOrLateAreDropped) {
  if (GetParam() == Way::kGrpc) GTEST_SKIP() << "a reply over gRPC is the end of its call";
  chances_[LinkFault::kRepeatReply] = 0.5;
  chances_[LinkFault::kDelayReply] = 0.1;
  chances_.longest_delay = 2 * kTimeout;
  client_->Set(chances_);
  for (int i = 0; i < 100; ++i) {
    const Status status = i % 3 == 0 ? Read() : Fetch();
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kDeadlineExceeded) << status;
  }
  client_->Set({});
  // Whatever was late has come, and holds no memory.
  const Time start = Now();
  while (client_->transfer().pool->used_bytes() > 0 && Now() - start < kSlack) {
    EXPECT_TRUE(Fetch().ok());
  }
  EXPECT_EQ(client_->transfer().pool->used_bytes(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Ways, FaultyLinkTest, ::testing::Values(Way::kShm, Way::kTcp, Way::kGrpc),
                         [](const auto& param) { return WayName(param.param); });

}  // namespace
}  // namespace passband::test
