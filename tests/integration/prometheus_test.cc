// Goal: a real Prometheus scrapes a real server while a real worker decodes, and finds there what
// the product is for: fewer bytes fetched than full attention reads.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "tests/support/child_process.h"
#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::seconds kPatience{120};

// Free when asked; Prometheus has no way to be given any port and tell which.
uint16_t FreePort() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(socket);
  return ntohs(address.sin_port);
}

class PrometheusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = test::ServerProcess::Start(
        {.binary = PASSBAND_BIN "/passband-server", .flags = {"--ram", "128MiB"}});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    const std::string model = PASSBAND_SOURCE "/models/books-13m";
    std::ifstream book(model + "/held-out.txt", std::ios::binary);
    std::string prompt(2000, '\0');
    book.read(prompt.data(), static_cast<std::streamsize>(prompt.size()));
    std::ofstream(folder_ / "prompt.txt", std::ios::binary) << prompt;
    auto worker =
        test::ChildProcess::Start({PASSBAND_BIN "/passband-worker", "generate", "--model", model,
                                   "--server", server_->control_address(), "--prompt-file",
                                   folder_ / "prompt.txt", "--max-tokens", "6000"},
                                  folder_ / "worker.log");
    ASSERT_TRUE(worker.ok()) << worker.status();
    worker_ = *std::move(worker);
    StartPrometheus();
  }

  void StartPrometheus() {
    std::ofstream(folder_ / "prometheus.yml")
        << "global: {scrape_interval: 500ms, scrape_timeout: 400ms}\n"
        << "scrape_configs:\n"
        << "  - job_name: passband\n"
        << "    static_configs: [{targets: ['127.0.0.1:" << server_->http_port() << "']}]\n";
    port_ = FreePort();
    auto prometheus = test::ChildProcess::Start(
        {PASSBAND_PROMETHEUS, "--config.file=" + folder_ / "prometheus.yml",
         "--storage.tsdb.path=" + folder_ / "data",
         "--web.listen-address=127.0.0.1:" + std::to_string(port_)},
        folder_ / "prometheus.log");
    ASSERT_TRUE(prometheus.ok()) << prometheus.status();
    prometheus_ = *std::move(prometheus);
  }

  Json Api(const std::string& path, const httplib::Params& parameters = {}) const {
    httplib::Client client("127.0.0.1", port_);
    const auto response = client.Get(path, parameters, {});
    if (!response || response->status != 200) return {};
    return Json::parse(response->body, nullptr, false);
  }
  // The value of a query that gives one; nullopt while it gives none.
  std::optional<double> Query(const std::string& query) const {
    const Json json = Api("/api/v1/query", {{"query", query}});
    if (!json.is_object() || json["data"]["result"].size() != 1) return std::nullopt;
    return std::stod(json["data"]["result"][0]["value"][1].get<std::string>());
  }
  bool Eventually(const std::string& query) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline && prometheus_->running()) {
      if (Query(query).has_value()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    return false;
  }

  const test::TempFolder folder_;
  std::unique_ptr<test::ServerProcess> server_;
  std::unique_ptr<test::ChildProcess> worker_, prometheus_;
  uint16_t port_ = 0;
};

TEST_F(PrometheusTest, FindsThatLessIsFetchedThanFullAttentionReads) {
  EXPECT_TRUE(
      Eventually("passband_full_attention_bytes_total > "
                 "scalar(sum(passband_fetched_bytes_total)) > 0"))
      << prometheus_->Log() << worker_->Log() << Api("/api/v1/targets");
  EXPECT_GT(Query("sum(passband_fetched_bytes_total)").value_or(0), 0);
  EXPECT_EQ(Query("up{job=\"passband\"}"), 1);
  EXPECT_EQ(Query("min_over_time(up{job=\"passband\"}[2m])"), 1);
  // While the worker decodes, what it saves moves from scrape to scrape.
  EXPECT_TRUE(Eventually("rate(passband_full_attention_bytes_total[1m]) > 0")) << worker_->Log();
  EXPECT_EQ(Query("passband_sessions"), 1);
  EXPECT_TRUE(worker_->running()) << worker_->Log();
  const Json targets = Api("/api/v1/targets")["data"]["activeTargets"];
  ASSERT_EQ(targets.size(), 1U);
  EXPECT_EQ(targets[0]["health"], "up");
  EXPECT_EQ(targets[0]["lastError"], "");
  // Every sample of a scrape was taken: none twice, none out of order.
  EXPECT_EQ(Query("scrape_samples_scraped - scrape_samples_post_metric_relabeling"), 0);
  EXPECT_GT(Query("scrape_samples_scraped").value_or(0), 100);
}

}  // namespace
}  // namespace passband
