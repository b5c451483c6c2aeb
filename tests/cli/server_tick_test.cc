// Goal: between two looks, rates and shares are what the counters say, a restart is no negative
// rate, and what needs somebody is said, and nothing else.
#include "services/cli/top/server_tick.h"

#include <gmock/gmock.h>

#include <cmath>

namespace passband::top {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kHead[] =
    "passband_build_info{grpc=\"1\",version=\"0.1.0\"} 1\npassband_ready 1\npassband_draining 0\n";

Look At(double seconds, const std::string& more, double started = 1000) {
  auto page = MetricPage::Parse(kHead + more + "process_start_time_seconds " +
                                std::to_string(started) + "\n");
  EXPECT_TRUE(page.ok()) << page.status();
  return {.page = *std::move(page), .at_seconds = seconds};
}

ServerTick Tick(const Look& before, const Look& now) {
  auto tick = MakeTick(before, now);
  EXPECT_TRUE(tick.ok()) << tick.status();
  return tick.ok() ? *std::move(tick) : ServerTick();
}

std::string Fetches(int ok, int failed, int rows, int bytes) {
  const std::string count = std::to_string(ok + failed);
  return fmt::format(
      "passband_requests_total{{method=\"fetch\",transport=\"shm\",result=\"ok\"}} {}\n"
      "passband_requests_total{{method=\"fetch\",transport=\"shm\",result=\"not_found\"}} {}\n"
      "passband_rows_total{{method=\"fetch\"}} {}\n"
      "passband_fetched_bytes_total{{transport=\"shm\"}} {}\n"
      "passband_request_duration_seconds_bucket{{method=\"fetch\",transport=\"shm\",le=\"0.001\"}} "
      "{}\n"
      "passband_request_duration_seconds_bucket{{method=\"fetch\",transport=\"shm\",le=\"+Inf\"}} "
      "{}\n",
      ok, failed, rows, bytes, count, count);
}

TEST(ServerTickTest, RatesAreOfTheTimeBetweenTheLooks) {
  const Look before = At(10, Fetches(100, 0, 1000, 50'000) +
                                 "passband_full_attention_bytes_total 1000000\n"
                                 "passband_selected_rows_total 100\npassband_hot_rows_total 50\n");
  const Look now = At(12, Fetches(140, 0, 3000, 90'000) +
                              "passband_full_attention_bytes_total 2000000\n"
                              "passband_selected_rows_total 200\npassband_hot_rows_total 140\n");
  const ServerTick tick = Tick(before, now);
  EXPECT_EQ(tick.version, "0.1.0");
  EXPECT_FALSE(tick.restarted);
  EXPECT_DOUBLE_EQ(tick.saved_now.share(), 0.96);
  EXPECT_DOUBLE_EQ(tick.saved_since_start.share(), 1 - 0.045);
  EXPECT_DOUBLE_EQ(tick.hot_row_share, 0.9);
  EXPECT_TRUE(std::isnan(tick.prefix_hit_share));
  ASSERT_EQ(tick.traffic.size(), 5U);
  EXPECT_EQ(tick.traffic[0].method, "fetch");
  EXPECT_DOUBLE_EQ(tick.traffic[0].requests_per_second, 20);
  EXPECT_DOUBLE_EQ(tick.traffic[0].rows_per_second, 1000);
  EXPECT_DOUBLE_EQ(tick.traffic[0].bytes_per_second, 20'000);
  EXPECT_DOUBLE_EQ(tick.traffic[0].p50_seconds, 0.0005);
  EXPECT_EQ(tick.traffic[1].transport, "shm");
  EXPECT_DOUBLE_EQ(tick.traffic[1].bytes_per_second, 20'000);
  EXPECT_EQ(tick.traffic[2].method, "append");
  EXPECT_EQ(tick.traffic[2].requests_per_second, 0);
  EXPECT_THAT(tick.warnings, IsEmpty());
}

TEST(ServerTickTest, NothingHappensBetweenALookAndItself) {
  const Look look = At(10, Fetches(100, 3, 1000, 50'000));
  const ServerTick tick = Tick(look, look);
  EXPECT_EQ(tick.traffic[0].requests_per_second, 0);
  EXPECT_TRUE(std::isnan(tick.traffic[0].p99_seconds));
  EXPECT_TRUE(std::isnan(tick.saved_now.share()));
  EXPECT_THAT(tick.warnings, IsEmpty());
}

TEST(ServerTickTest, ARestartCountsFromZero) {
  const ServerTick tick =
      Tick(At(10, Fetches(100, 0, 1000, 50'000), 1000), At(11, Fetches(7, 0, 70, 700), 2000));
  EXPECT_TRUE(tick.restarted);
  EXPECT_DOUBLE_EQ(tick.traffic[0].requests_per_second, 7);
  EXPECT_DOUBLE_EQ(tick.traffic[0].p50_seconds, 0.0005);
  EXPECT_THAT(tick.warnings, ElementsAre(HasSubstr("started again")));
}

TEST(ServerTickTest, TenantsComeWithTheirQuotasTheLargestFirst) {
  const ServerTick tick =
      Tick(At(1, ""),
           At(2,
              "passband_tenant_bytes{tenant=\"a\"} 10\npassband_tenant_bytes{tenant=\"b\"} 99\n"
              "passband_tenant_ram_bytes{tenant=\"a\"} 10\n"
              "passband_tenant_ram_bytes{tenant=\"b\"} 99\n"
              "passband_tenant_sequences{tenant=\"b\"} 3\n"
              "passband_tenant_quota_bytes{tenant=\"b\"} 100\n"));
  ASSERT_EQ(tick.tenants.size(), 2U);
  EXPECT_EQ(tick.tenants[0].name, "b");
  EXPECT_EQ(tick.tenants[0].sequences, 3U);
  EXPECT_EQ(tick.tenants[0].quota_bytes, 100);
  EXPECT_TRUE(std::isnan(tick.tenants[1].quota_bytes));
  EXPECT_THAT(tick.warnings, ElementsAre(HasSubstr("tenant b has nearly all")));
}

TEST(ServerTickTest, SaysWhatNeedsSomebody) {
  const auto warning = [](const std::string& before, const std::string& now) {
    const std::vector<std::string> all = Tick(At(1, before), At(2, now)).warnings;
    EXPECT_EQ(all.size(), 1U) << now;
    return all.empty() ? std::string() : all.front();
  };
  EXPECT_THAT(warning("", Fetches(1, 2, 1, 1)), HasSubstr("2.0 of 3.0 fetch requests a second "
                                                          "failed: not_found"));
  EXPECT_THAT(warning("", "passband_allocation_failures_total 4\n"), HasSubstr("--spill-dir"));
  EXPECT_THAT(warning("", "passband_spill_capacity_bytes 100\npassband_spill_healthy 0\n"),
              HasSubstr("the disk fails or is full"));
  EXPECT_THAT(warning("",
                      "passband_spill_capacity_bytes 100\npassband_spill_healthy 1\n"
                      "passband_spill_used_bytes 99\n"),
              HasSubstr("spill directory holds 99 B"));
  EXPECT_THAT(warning("passband_lost_blocks_total 2\n", "passband_lost_blocks_total 2\n"),
              HasSubstr("DATA_LOSS"));
  EXPECT_THAT(warning("", "passband_memory_capacity_bytes 100\npassband_memory_used_bytes 99\n"),
              HasSubstr("sequences fill 99 B of 100 B"));
  EXPECT_THAT(warning("", "passband_transport_errors_total{reason=\"wrong_mac\"} 1\n"),
              HasSubstr("wrong_mac"));
  EXPECT_THAT(warning("", "process_open_fds 96\nprocess_max_fds 100\n"),
              HasSubstr("file descriptors"));
  EXPECT_THAT(warning("",
                      "passband_tenant_bytes{tenant=\"a\"} 1\n"
                      "passband_tenant_rejections_total{tenant=\"a\"} 5\n"),
              HasSubstr("tenant a is refused for its quota, 5.0 times"));
  // Cached prefixes go when memory is needed: no reason to call anybody.
  EXPECT_THAT(Tick(At(1, ""), At(2,
                                 "passband_memory_capacity_bytes 100\n"
                                 "passband_memory_used_bytes 99\n"
                                 "passband_memory_cached_bytes 90\n"))
                  .warnings,
              IsEmpty());
}

TEST(ServerTickTest, RefusesMetricsOfSomethingElse) {
  const Look other{.page = *MetricPage::Parse("go_goroutines 7\n"), .at_seconds = 1};
  EXPECT_EQ(MakeTick(other, other).status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace passband::top
