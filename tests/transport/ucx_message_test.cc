// Goal: a message of any size arrives byte for byte, over every transport, in both
// directions, eager or by rendezvous; and every `done` runs exactly once.
#include <map>

#include "gmock/gmock.h"
#include "tests/transport/ucx_support.h"

namespace passband::transport {
namespace {

constexpr uint16_t kData = 7;
constexpr uint16_t kUnknown = 99;

struct Arrived {
  std::string header;
  std::vector<std::byte> payload;
  bool rendezvous = false;
  Outcome outcome;
};

// Two workers of one process, connected both ways.
class UcxMessageTest : public testing::TestWithParam<std::string> {
 protected:
  UcxMessageTest() : a_(GetParam()), b_(GetParam()) {
    Listen(a_, at_a_);
    Listen(b_, at_b_);
    to_b_ = a_.Connect(b_.worker->address());
    to_a_ = b_.Connect(a_.worker->address());
  }

  static void Listen(Node& node, std::vector<std::unique_ptr<Arrived>>& into) {
    ASSERT_TRUE(node.worker
                    ->SetHandler(kData,
                                 [&into](IncomingMessage& message) {
                                   into.push_back(std::make_unique<Arrived>());
                                   Arrived& arrived = *into.back();
                                   arrived.header = TextOf(message.header());
                                   arrived.rendezvous = message.is_rendezvous();
                                   arrived.payload.resize(message.payload_bytes());
                                   message.Receive(arrived.payload, nullptr,
                                                   arrived.outcome.Callback());
                                 })
                    .ok());
  }

  bool Run(const std::function<bool()>& condition) {
    return Until({a_.worker.get(), b_.worker.get()}, condition);
  }

  // Before the nodes: what is being received into must outlive its worker.
  std::vector<std::unique_ptr<Arrived>> at_a_, at_b_;
  Node a_, b_;
  std::unique_ptr<UcxEndpoint> to_b_, to_a_;
};

TEST_P(UcxMessageTest, CarriesEverySizeBothWays) {
  const size_t sizes[] = {0, 1, 63, 512, 4096, 8192, 8256, 65536, 300000, 1 << 20, 8 << 20};
  for (const SendMode mode : {SendMode::kAuto, SendMode::kEager, SendMode::kRendezvous}) {
    for (const size_t size : sizes) {
      SCOPED_TRACE(testing::Message() << "mode " << static_cast<int>(mode) << " size " << size);
      const auto there = RandomPayload(size, size + 1);
      const auto back = RandomPayload(size, size + 2);
      Outcome sent_there, sent_back;
      at_a_.clear();
      at_b_.clear();
      {
        const std::string header = "header " + std::to_string(size);
        to_b_->Send(kData, BytesOf(header), there, {.mode = mode}, sent_there.Callback());
        to_a_->Send(kData, BytesOf(header), back, {.mode = mode}, sent_back.Callback());
      }
      ASSERT_TRUE(Run([&] {
        return sent_there.ran() && sent_back.ran() && at_a_.size() == 1 && at_b_.size() == 1 &&
               at_a_[0]->outcome.ran() && at_b_[0]->outcome.ran();
      }));
      EXPECT_TRUE(sent_there.status.ok()) << sent_there.status;
      EXPECT_TRUE(at_b_[0]->outcome.status.ok()) << at_b_[0]->outcome.status;
      EXPECT_EQ(at_b_[0]->header, "header " + std::to_string(size));
      EXPECT_EQ(at_b_[0]->payload, there);
      EXPECT_EQ(at_a_[0]->payload, back);
      if (mode == SendMode::kEager) {
        EXPECT_FALSE(at_b_[0]->rendezvous);
      }
      if (mode == SendMode::kRendezvous && size > 0) {
        EXPECT_TRUE(at_b_[0]->rendezvous);
      }
    }
  }
  EXPECT_EQ(a_.worker->outstanding(), 0u);
  EXPECT_EQ(b_.worker->outstanding(), 0u);
}

TEST_P(UcxMessageTest, RunsEachDoneOnceOfManyInFlight) {
  constexpr int kMessages = 500;
  std::vector<Outcome> outcomes(kMessages);
  std::vector<std::vector<std::byte>> payloads;
  for (int i = 0; i < kMessages; ++i) payloads.push_back(RandomPayload((i * 7919) % 40000, i));
  for (int i = 0; i < kMessages; ++i) {
    to_b_->Send(kData, BytesOf(std::to_string(i)), payloads[i], {}, outcomes[i].Callback());
  }
  ASSERT_TRUE(Run([&] {
    return at_b_.size() == kMessages && b_.worker->outstanding() == 0 &&
           a_.worker->outstanding() == 0;
  }));
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.runs, 1);
    EXPECT_TRUE(outcome.status.ok());
  }
  for (const auto& arrived : at_b_) {
    EXPECT_EQ(arrived->outcome.runs, 1);
    EXPECT_EQ(arrived->payload, payloads[std::stoi(arrived->header)]);
  }
}

TEST_P(UcxMessageTest, UsesRegisteredMemory) {
  std::vector<std::byte> region = RandomPayload(2 << 20, 5);
  std::vector<std::byte> landing(2 << 20);
  const auto source = UcxMemory::Register(a_.context, region);
  const auto place = UcxMemory::Register(b_.context, landing);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_TRUE(place.ok()) << place.status();
  Outcome sent, received;
  ASSERT_TRUE(b_.worker
                  ->SetHandler(kData + 1,
                               [&](IncomingMessage& message) {
                                 message.Receive(landing, place->get(), received.Callback());
                               })
                  .ok());
  to_b_->Send(kData + 1, BytesOf("x"), region, {.memory = source->get()}, sent.Callback());
  ASSERT_TRUE(Run([&] { return sent.ran() && received.ran(); }));
  EXPECT_TRUE(received.status.ok()) << received.status;
  EXPECT_EQ(landing, region);
}

TEST_P(UcxMessageTest, TellsTheSenderOfARefusedRendezvous) {
  const std::map<StatusCode, StatusCode> seen = {
      {StatusCode::kResourceExhausted, StatusCode::kResourceExhausted},
      {StatusCode::kInvalidArgument, StatusCode::kInvalidArgument},
      {StatusCode::kNotFound, StatusCode::kNotFound},
      {StatusCode::kPermissionDenied, StatusCode::kPermissionDenied},
      {StatusCode::kDataLoss, StatusCode::kInternal}};
  StatusCode code = StatusCode::kOk;
  ASSERT_TRUE(b_.worker
                  ->SetHandler(kData + 1,
                               [&](IncomingMessage& message) {
                                 if (code != StatusCode::kOk) message.Refuse(Status(code, "no"));
                               })
                  .ok());
  const auto payload = RandomPayload(1 << 20, 3);
  const auto send = [&] {
    Outcome sent;
    to_b_->Send(kData + 1, BytesOf("x"), payload, {.mode = SendMode::kRendezvous}, sent.Callback());
    EXPECT_TRUE(Run([&] { return sent.ran(); }));
    EXPECT_EQ(sent.runs, 1);
    return sent.status.code();
  };
  EXPECT_EQ(send(), StatusCode::kInternal) << "a handler that forgot the message";
  for (const auto& [refused, expected] : seen) {
    code = refused;
    EXPECT_EQ(send(), expected) << Status(refused, "");
  }
  EXPECT_TRUE(to_b_->status().ok()) << "a refusal is not a lost connection";
}

TEST_P(UcxMessageTest, RefusesAPayloadLargerThanItsPlace) {
  std::vector<std::byte> small(100);
  Outcome received;
  ASSERT_TRUE(b_.worker
                  ->SetHandler(kData + 1,
                               [&](IncomingMessage& message) {
                                 message.Receive(small, nullptr, received.Callback());
                               })
                  .ok());
  const auto payload = RandomPayload(1 << 20, 3);
  Outcome sent;
  to_b_->Send(kData + 1, {}, payload, {.mode = SendMode::kRendezvous}, sent.Callback());
  ASSERT_TRUE(Run([&] { return sent.ran() && received.ran(); }));
  EXPECT_EQ(sent.status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(received.status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(small, testing::Each(std::byte{0}));
}

TEST_P(UcxMessageTest, DropsWhatNobodyHandles) {
  Outcome eager;
  to_b_->Send(kUnknown, BytesOf("x"), {}, {.mode = SendMode::kEager}, eager.Callback());
  Outcome after;
  to_b_->Send(kData, BytesOf("after"), {}, {}, after.Callback());
  ASSERT_TRUE(Run([&] { return eager.ran() && after.ran() && at_b_.size() == 1; }));
  EXPECT_TRUE(eager.status.ok());
}

TEST_P(UcxMessageTest, NamesItsTransport) {
  EXPECT_EQ(to_b_->transport_name(), GetParam());
  const auto payload = RandomPayload(100, 1);
  Outcome sent;
  to_b_->Send(kData, BytesOf("x"), payload, {.mode = SendMode::kEager}, sent.Callback());
  ASSERT_TRUE(Run([&] { return sent.ran() && at_b_.size() == 1; }));
  EXPECT_EQ(to_b_->transport_name(), GetParam());
  EXPECT_EQ(to_a_->transport_name(), GetParam());
}

TEST_P(UcxMessageTest, FlushesAfterWhatWasSent) {
  const auto payload = RandomPayload(3 << 20, 9);
  Outcome sent, flushed;
  to_b_->Send(kData, BytesOf("x"), payload, {.mode = SendMode::kEager}, sent.Callback());
  to_b_->Flush(flushed.Callback());
  ASSERT_TRUE(Run([&] { return flushed.ran(); }));
  EXPECT_TRUE(flushed.status.ok()) << flushed.status;
  EXPECT_TRUE(sent.ran());
}

TEST_P(UcxMessageTest, CancelsWhatADestroyedEndpointHadInFlight) {
  // Connected first, so that the sends wait on the peer rather than on wire-up.
  Outcome first;
  to_b_->Send(kData, BytesOf("first"), {}, {}, first.Callback());
  ASSERT_TRUE(Run([&] { return first.ran() && at_b_.size() == 1; }));
  constexpr int kMessages = 40;
  std::vector<Outcome> outcomes(kMessages);
  for (auto& outcome : outcomes) {
    SendOwned(*to_b_, kData, RandomPayload(1 << 20, 11), SendMode::kRendezvous, outcome);
  }
  to_b_.reset();
  ASSERT_TRUE(Until({a_.worker.get()}, [&] { return a_.worker->outstanding() == 0; }));
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.runs, 1);
    EXPECT_EQ(outcome.status.code(), StatusCode::kCancelled) << outcome.status;
  }
}

TEST_P(UcxMessageTest, CancelsSendsThatNeverConnected) {
  std::vector<Outcome> outcomes(6);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const auto mode = i % 2 == 0 ? SendMode::kRendezvous : SendMode::kEager;
    SendOwned(*to_b_, kData, RandomPayload(1 << 20, 11), mode, outcomes[i]);
  }
  to_b_.reset();
  to_a_.reset();
  a_.worker.reset();
  for (const auto& outcome : outcomes) EXPECT_EQ(outcome.runs, 1);
}

TEST_P(UcxMessageTest, EndsReceivesWithTheWorker) {
  const auto payload = RandomPayload(8 << 20, 12);
  Outcome sent;
  to_b_->Send(kData, BytesOf("x"), payload, {.mode = SendMode::kRendezvous}, sent.Callback());
  // The receive has started, and stays in flight: its sender stands still.
  ASSERT_TRUE(Run([&] { return at_b_.size() == 1; }));
  const bool in_flight = !at_b_[0]->outcome.ran();
  to_a_.reset();
  b_.worker.reset();
  EXPECT_EQ(at_b_[0]->outcome.runs, 1);
  if (in_flight) {
    EXPECT_FALSE(at_b_[0]->outcome.status.ok());
  }
  to_b_.reset();
  a_.worker.reset();
  EXPECT_EQ(sent.runs, 1);
}

TEST_P(UcxMessageTest, LetsCallbacksDestroyEndpoints) {
  std::unique_ptr<UcxEndpoint> extra = a_.Connect(b_.worker->address());
  Outcome second;
  bool destroyed = false;
  const auto payload = RandomPayload(1 << 20, 13);
  extra->Send(kData, BytesOf("1"), payload, {}, [&](Status) {
    extra.reset();
    destroyed = true;
  });
  if (extra != nullptr) extra->Send(kData, BytesOf("2"), payload, {}, second.Callback());
  ASSERT_TRUE(Run([&] { return destroyed && second.ran() && a_.worker->outstanding() == 0; }));
  EXPECT_EQ(second.runs, 1);
}

INSTANTIATE_TEST_SUITE_P(Transports, UcxMessageTest, testing::Values("shm", "tcp"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace passband::transport
