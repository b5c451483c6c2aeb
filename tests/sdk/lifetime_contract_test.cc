// Goal: an embedded service and a server close what nobody used for its TTL alike, and say so.
#include <gtest/gtest.h>

#include <thread>

#include "tests/sdk/service_fixture.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LifetimeContract : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(service_.Start(GetParam()));
    const Status registered = service_->RegisterModel(model_);
    ASSERT_TRUE(registered.ok()) << registered;
  }
  StatusOr<SequenceId> Open(milliseconds ttl = {}) {
    PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened,
                              service_->Open({.model = model_.fingerprint.text(), .ttl = ttl}));
    return opened.id;
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

INSTANTIATE_TEST_SUITE_P(Ways, LifetimeContract, ::testing::Values(Way::kEmbedded, Way::kGrpc),
                         [](const auto& param) { return WayName(param.param); });

}  // namespace
}  // namespace passband::test
