// Goal: an embedded service and a server close what nobody used for its TTL alike, and say so.
#include <gtest/gtest.h>

#include <thread>

#include "sdk/embedded/embedded_service.h"
#include "tests/sdk/service_fixture.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LifetimeContract : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(service_.Start(
        GetParam(),
        {.server_flags = {"--pin-limit", std::to_string(kPinLimit) + "B"}, .remote = {}}));
    if (GetParam() == Way::kEmbedded) {
      auto embedded =
          EmbeddedService::Create({.ram_bytes = 64 << 20, .pin_limit_bytes = kPinLimit});
      ASSERT_TRUE(embedded.ok()) << embedded.status();
      service_.Use(*std::move(embedded));
    }
    const Status registered = service_->RegisterModel(model_);
    ASSERT_TRUE(registered.ok()) << registered;
  }
  StatusOr<SequenceId> Open(milliseconds ttl = {}) {
    PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened,
                              service_->Open({.model = model_.fingerprint.text(), .ttl = ttl}));
    return opened.id;
  }
  // With rows of one block in every layer.
  StatusOr<SequenceId> Sealed() {
    PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, Open());
    ExpectedRows rows(model_, random_());
    PASSBAND_RETURN_IF_ERROR(AppendUpTo(*service_, model_, id, rows, 64, random_));
    PASSBAND_RETURN_IF_ERROR(service_->Seal(id));
    return id;
  }
  // What Stat says once it fails.
  StatusCode AwaitEnd(SequenceId id) {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    StatusCode code = StatusCode::kOk;
    while (code == StatusCode::kOk && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(20));
      code = service_->Stat(id).status().code();
    }
    return code;
  }

  // Two sequences of one block a layer.
  static constexpr uint64_t kPinLimit = 2 * 3 * 16 * 1024;

  std::mt19937_64 random_{1};
  const ModelInfo model_ = SmallModel();
  ServiceUnderTest service_;
};

TEST_P(LifetimeContract, AnUnusedSequenceIsClosedAfterItsTtl) {
  const auto id = Open(milliseconds(1500));
  ASSERT_TRUE(id.ok()) << id.status();
  const auto without = Open();
  ASSERT_TRUE(without.ok()) << without.status();
  const auto stat = service_->Stat(*id);
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->ttl, milliseconds(1500));
  EXPECT_EQ(service_->Stat(*without)->ttl, milliseconds(0));
  EXPECT_EQ(AwaitEnd(*id), StatusCode::kNotFound);
  EXPECT_TRUE(service_->Stat(*without).ok());
}

TEST_P(LifetimeContract, TtlsThatAreNoneAreRefused) {
  for (const milliseconds wrong : {milliseconds(-1), milliseconds(std::chrono::hours(9000))}) {
    EXPECT_EQ(Open(wrong).status().code(), StatusCode::kInvalidArgument) << wrong.count();
  }
}

TEST_P(LifetimeContract, SealedSequencesArePinnedUpToTheLimit) {
  const auto open = Open();
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_EQ(service_->Pin(*open, seconds(1)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(service_->Pin(SequenceId(12345), seconds(1)).code(), StatusCode::kNotFound);
  std::vector<SequenceId> sealed;
  for (int i = 0; i < 3; ++i) {
    const auto id = Sealed();
    ASSERT_TRUE(id.ok()) << id.status();
    sealed.push_back(*id);
  }
  EXPECT_EQ(service_->Pin(sealed[0], milliseconds(-1)).code(), StatusCode::kInvalidArgument);
  for (int i = 0; i < 2; ++i) {
    const Status pinned = service_->Pin(sealed[i], std::chrono::minutes(5));
    EXPECT_TRUE(pinned.ok()) << pinned;
  }
  EXPECT_EQ(service_->Pin(sealed[2], seconds(1)).code(), StatusCode::kResourceExhausted);
  const auto stat = service_->Stat(sealed[0]);
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_GT(stat->pinned_for, std::chrono::minutes(4));
  EXPECT_LE(stat->pinned_for, std::chrono::minutes(5));
  EXPECT_EQ(service_->Stat(sealed[2])->pinned_for, milliseconds(0));
  EXPECT_TRUE(service_->Unpin(sealed[0]).ok());
  EXPECT_EQ(service_->Stat(sealed[0])->pinned_for, milliseconds(0));
  const Status pinned = service_->Pin(sealed[2], milliseconds(0));
  EXPECT_TRUE(pinned.ok()) << pinned;
  EXPECT_GT(service_->Stat(sealed[2])->pinned_for, std::chrono::minutes(59));
}

INSTANTIATE_TEST_SUITE_P(Ways, LifetimeContract, ::testing::Values(Way::kEmbedded, Way::kGrpc),
                         [](const auto& param) { return WayName(param.param); });

}  // namespace
}  // namespace passband::test
