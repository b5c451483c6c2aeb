// Goal: what is exposed is what Prometheus and its linter take, and it counts what happened.
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "tests/services/server_fixture.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

class MetricsTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    client_ = Client("a");
    ASSERT_TRUE(client_->Hello().ok());
  }

  // One of every request, good and bad.
  void Work() {
    sequence_ = Open(*client_, std::vector<uint32_t>(64, 1));
    ASSERT_TRUE(Fill(*client_, sequence_, 0, 64).ok());
    const std::vector<uint32_t> tokens = {1, 2, 3};
    ASSERT_TRUE(
        client_
            ->Fetch([&](transport::FetchBuilder& builder) { builder.Add(sequence_, 0, 0, tokens); },
                    kRowBytes)
            .status.ok());
    ASSERT_TRUE(client_->Read(sequence_, 0, 0, 10).status.ok());
    EXPECT_FALSE(client_->Read(sequence_ + 1, 0, 0, 10).status.ok());
  }

  void LintExposition() {
#ifdef PASSBAND_PROMTOOL
    const test::TempFolder folder;
    const std::string path = folder / "metrics.txt";
    std::ofstream(path) << Get(*server_, "/metrics");
    const std::string command =
        std::string(PASSBAND_PROMTOOL) + " check metrics < " + path + " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    std::string output;
    char buffer[1024];
    while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) output += buffer;
    EXPECT_EQ(pclose(pipe), 0) << output;
    EXPECT_EQ(output, "");
#else
    GTEST_SKIP() << "promtool is not installed";
#endif
  }

  std::unique_ptr<RawClient> client_;
  uint64_t sequence_ = 0;
};

TEST_F(MetricsTest, IdleExpositionPassesTheLinter) { LintExposition(); }

TEST_F(MetricsTest, BusyExpositionPassesTheLinter) {
  Work();
  LintExposition();
}

TEST_F(MetricsTest, IdleServerHasFewSeries) {
  const std::string text = Get(*server_, "/metrics");
  size_t series = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) series += text[at] != '#';
  EXPECT_LT(series, 400U);
}

TEST_F(MetricsTest, CountersMove) {
  Work();
  const auto metric = [this](const std::string& series) { return Metric(*server_, series); };
  const std::string shm = "transport=\"shm\"";
  // A request is counted once its answer is sent, which may be after the client has it.
  EXPECT_TRUE(client_->Wait([&] {
    return metric("passband_requests_total{method=\"read\"," + shm + ",result=\"ok\"}") == 1;
  }));
  EXPECT_EQ(metric("passband_requests_total{method=\"fetch\"," + shm + ",result=\"ok\"}"), 1);
  EXPECT_EQ(metric("passband_requests_total{method=\"append\"," + shm + ",result=\"ok\"}"),
            kLayers);
  EXPECT_EQ(metric("passband_requests_total{method=\"read\"," + shm + ",result=\"not_found\"}"), 1);
  EXPECT_EQ(metric("passband_request_duration_seconds_count{method=\"fetch\"," + shm + "}"), 1);
  EXPECT_GT(metric("passband_request_duration_seconds_sum{method=\"fetch\"," + shm + "}"), 0);
  EXPECT_EQ(metric("passband_rows_total{method=\"fetch\"}"), 3);
  EXPECT_EQ(metric("passband_fetched_bytes_total{" + shm + "}"), 3 * kRowBytes);
  EXPECT_EQ(metric("passband_appended_bytes_total{" + shm + "}"),
            static_cast<double>(kLayers * kBlockBytes));
  EXPECT_EQ(metric("passband_read_bytes_total"), 10.0 * kKvHeads * kRowBytes);
  EXPECT_EQ(metric("passband_selected_rows_total"), 6);
  EXPECT_EQ(metric("passband_hot_rows_total"), 3);
  EXPECT_EQ(metric("passband_full_attention_bytes_total"), 300 * kRowBytes);
  EXPECT_EQ(metric("passband_memory_used_bytes"), static_cast<double>(kLayers * kBlockBytes));
  EXPECT_EQ(metric("passband_sequences{state=\"open\"}"), 1);
  EXPECT_EQ(metric("passband_sessions"), 1);
  EXPECT_EQ(metric("passband_ready"), 1);
  EXPECT_EQ(metric("passband_staging_capacity_bytes"),
            static_cast<double>(SmallSettings().staging_bytes));
  EXPECT_EQ(metric("passband_rpc_requests_total{method=\"Connect\",code=\"ok\"}"), 1);
  EXPECT_EQ(metric("passband_prefix_lookup_tokens_total"), 64);
  EXPECT_GT(metric("process_resident_memory_bytes"), 1e6);
}

TEST_F(MetricsTest, TenantsHoldAndAreRefused) {
  server::Settings settings = SmallSettings();
  settings.tenant_quotas = {{"a", {.bytes = 4 * kBlockBytes, .sequences = 1}}};
  Start(settings);
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 128).ok());
  const Status full = Fill(*client, sequence, 128, 1);
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(Message(full).find("tenant a holds"), std::string::npos) << full;
  v1::OpenSequenceRequest open;
  open.set_model(TestModel().fingerprint());
  v1::OpenSequenceResponse opened;
  EXPECT_EQ(client->stub().OpenSequence(client->Context().get(), open, &opened).error_code(),
            grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Metric(*server_, "passband_tenant_bytes{tenant=\"a\"}"), 4.0 * kBlockBytes);
  EXPECT_EQ(Metric(*server_, "passband_tenant_ram_bytes{tenant=\"a\"}"), 4.0 * kBlockBytes);
  EXPECT_EQ(Metric(*server_, "passband_tenant_sequences{tenant=\"a\"}"), 1);
  EXPECT_EQ(Metric(*server_, "passband_tenant_quota_bytes{tenant=\"a\"}"), 4.0 * kBlockBytes);
  EXPECT_EQ(Metric(*server_, "passband_tenant_quota_sequences{tenant=\"a\"}"), 1);
  EXPECT_EQ(Metric(*server_, "passband_tenant_rejections_total{tenant=\"a\"}"), 2);
  // A worker's end frees what it held.
  v1::DisconnectResponse ended;
  ASSERT_TRUE(client->stub().Disconnect(client->Context().get(), {}, &ended).ok());
  EXPECT_EQ(Metric(*server_, "passband_tenant_bytes{tenant=\"a\"}"), 0);
  EXPECT_EQ(Metric(*server_, "passband_tenant_quota_bytes{tenant=\"b\"}"), -1);
}

TEST_F(MetricsTest, AllocationsThatFoundNothingFreeAreTimed) {
  EXPECT_EQ(Metric(*server_, "passband_allocation_stall_seconds_count"), 0);
  EXPECT_EQ(Metric(*server_, "passband_allocation_longest_stall_seconds"), 0);
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  Status full;
  for (uint64_t first = 0; full.ok(); first += 64) full = Fill(*client, sequence, first, 64);
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
  EXPECT_TRUE(RetryAfter(full).has_value()) << full;
  EXPECT_GE(Metric(*server_, "passband_allocation_stall_seconds_count"), 1);
  EXPECT_EQ(Metric(*server_, "passband_allocation_stall_seconds_bucket{le=\"+Inf\"}"),
            Metric(*server_, "passband_allocation_stall_seconds_count"));
  EXPECT_GT(Metric(*server_, "passband_allocation_longest_stall_seconds"), 0);
  EXPECT_LT(Metric(*server_, "passband_allocation_stall_seconds_count"), 10);
}

TEST_F(MetricsTest, StatusPageHasItsNumbers) {
  Work();
  const std::string page = Get(*server_, "/");
  EXPECT_THAT(page, HasSubstr("Attention traffic saved"));
  EXPECT_EQ(page.find("http://"), page.find("http://www.w3.org/2000/svg"));
  EXPECT_EQ(page.find("https://"), std::string::npos);
  const auto json = nlohmann::json::parse(Get(*server_, "/status.json"));
  EXPECT_EQ(json.at("sessions"), 1);
  EXPECT_EQ(json.at("full_attention_bytes"), 300 * kRowBytes);
  EXPECT_EQ(json.at("sequences").at("open"), 1);
  EXPECT_EQ(json.at("connections").at("shm"), 1);
}

TEST_F(MetricsTest, HealthAndVersion) {
  EXPECT_EQ(Get(*server_, "/healthz"), "ok\n");
  EXPECT_EQ(Get(*server_, "/readyz"), "ready\n");
  EXPECT_TRUE(nlohmann::json::parse(Get(*server_, "/version")).contains("version"));
  EXPECT_NE(Get(*server_, "/nothing", 404), "?");
}

}  // namespace
}  // namespace passband::testing
