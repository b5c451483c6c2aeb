// Goal: the public face is enough to write a program with: it includes nothing else of
// Passband, compiles, and does what its header says.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "passband/client.h"

namespace {

namespace client = passband::client;

constexpr uint32_t kRowBytes = 2 * 64 * 2;  // K and V, head_dim 64, bf16

const client::Model kModel{.fingerprint = "a1:b2",
                           .name = "example",
                           .layers = 2,
                           .query_heads = 4,
                           .kv_heads = 2,
                           .head_dim = 64,
                           .rotary_dim = 64};

// Keeps one block of every layer and reads scattered rows of it back.
client::Status StoreAndFetch(client::Client& kv, std::vector<std::byte>& out) {
  if (auto status = kv.RegisterModel(kModel); !status.ok()) return status;
  auto opened = kv.Open({.model = kModel.fingerprint, .token_ids = {}});
  if (!opened.ok()) return opened.status();

  std::vector<std::byte> rows(kModel.kv_heads * 64 * kRowBytes);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::byte>(i / kRowBytes);
  for (uint32_t layer = 0; layer < kModel.layers; ++layer) {
    auto status = kv.Append({.sequence = opened->sequence,
                             .layer = layer,
                             .first_token = 0,
                             .count = 64,
                             .rows = rows});
    if (!status.ok()) return status;
  }
  if (auto status = kv.Flush(opened->sequence); !status.ok()) return status;

  const std::vector<uint32_t> selected = {63, 0, 17};
  client::Rows pending = kv.Fetch({{opened->sequence, 1, 1, selected}}, kRowBytes);
  auto fetched = pending.Wait();
  if (!fetched.ok()) return fetched.status();
  out.assign(fetched->begin(), fetched->end());
  return kv.Close(opened->sequence);
}

TEST(ClientExample, StoresAndFetches) {
  auto kv = client::Client::Embedded(64 << 20);
  ASSERT_TRUE(kv.ok()) << kv.status().message();
  std::vector<std::byte> rows;
  const client::Status status = StoreAndFetch(*kv, rows);
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_EQ(rows.size(), 3u * kRowBytes);
  for (const auto& [at, row] : {std::pair{0, 64 + 63}, {1, 64 + 0}, {2, 64 + 17}}) {
    EXPECT_TRUE(std::all_of(rows.begin() + at * kRowBytes, rows.begin() + (at + 1) * kRowBytes,
                            [row = row](std::byte b) { return b == static_cast<std::byte>(row); }));
  }
  EXPECT_EQ(kv->transport(), "embedded");
}

TEST(ClientExample, ErrorsSayWhatAndWhy) {
  auto kv = client::Client::Embedded(64 << 20);
  ASSERT_TRUE(kv.ok()) << kv.status().message();
  const auto stat = kv->Stat(77);
  EXPECT_EQ(stat.status().code(), client::Code::kNotFound);
  EXPECT_NE(stat.status().message().find("77"), std::string::npos) << stat.status().message();
  EXPECT_EQ(kv->RegisterModel({.fingerprint = "no colon"}).code(), client::Code::kInvalidArgument);
}

TEST(ClientExample, AServerThatIsNotThereIsNamed) {
  // Port 1 of the loopback interface: nobody listens there.
  const auto kv = client::Client::Connect(
      {.server = "127.0.0.1:1", .connect_timeout = std::chrono::milliseconds(2000)});
  ASSERT_FALSE(kv.ok());
  EXPECT_EQ(kv.status().code(), client::Code::kUnavailable);
  EXPECT_NE(kv.status().message().find("127.0.0.1:1"), std::string::npos);
  EXPECT_NE(kv.status().message().find("--server"), std::string::npos) << kv.status().message();
}

}  // namespace
