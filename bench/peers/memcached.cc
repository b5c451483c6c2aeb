// Memcached: a key a row, gathered with multi-gets that go out as they are made.
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "bench/peers/peer.h"
#include "bench/peers/peer_process.h"
#include "bench/peers/stream.h"

namespace passband::bench {
namespace {

constexpr size_t kKeysOfOne = 256;

class Memcached final : public Peer {
 public:
  Memcached(const Workload& workload, Link link) : workload_(workload), link_(link) {
    landing_.resize(std::max(workload.gather_bytes(), kValueBytes));
  }

  Status Start() {
    PASSBAND_ASSIGN_OR_RETURN(
        process_, PeerProcess::Start(
                      [this](const PeerProcess::Place& place) {
                        std::vector<std::string> out = {"memcached", "-t", "1",  "-m", "2048",
                                                        "-I",        "4m", "-U", "0"};
                        const std::vector<std::string> where =
                            link_ == Link::kTcp
                                ? std::vector<std::string>{"-l", "127.0.0.1", "-p",
                                                           std::to_string(place.port)}
                                : std::vector<std::string>{"-s", place.socket()};
                        out.insert(out.end(), where.begin(), where.end());
                        // It refuses to run as root unless it is told to.
                        if (::geteuid() == 0) out.insert(out.end(), {"-u", "root"});
                        return out;
                      },
                      link_ == Link::kTcp));
    return link_ == Link::kTcp ? stream_.ConnectTcp(process_->place().port)
                               : stream_.ConnectUnix(process_->place().socket());
  }

  std::string name() const override { return "memcached"; }
  std::string link() const override { return link_ == Link::kTcp ? "tcp" : "unix"; }
  std::vector<std::string> gathers() const override { return {"multi-get"}; }

  Status Fill() override {
    std::vector<std::byte> row(workload_.row_bytes);
    for (uint32_t layer = 0; layer < workload_.layers; ++layer) {
      for (uint32_t head = 0; head < kKvHeads; ++head) {
        for (uint32_t token = 0; token < kTokens; ++token) {
          Write(PlaceOf(layer, head, token), row);
          const auto key = RowKey(layer, head, token);
          AddSet({key.data(), key.size()}, row);
        }
        for (uint32_t token = 0; token < kTokens; ++token) {
          PASSBAND_RETURN_IF_ERROR(Expect("STORED"));
        }
      }
    }
    return OkStatus();
  }

  StatusOr<std::span<const std::byte>> Gather(size_t, const GatherRequest& request) override {
    const size_t rows = request.tokens.size();
    for (size_t i = 0; i < rows; ++i) {
      if (i % kKeysOfOne == 0) Add("get");
      const auto head = static_cast<uint32_t>(i / workload_.per_head());
      const auto key = RowKey(request.layer, head, request.tokens[i]);
      Add(" ");
      Add({key.data(), key.size()});
      if (i % kKeysOfOne != kKeysOfOne - 1 && i + 1 != rows) continue;
      Add("\r\n");
      PASSBAND_RETURN_IF_ERROR(stream_.Push());
    }
    for (size_t i = 0; i < rows; ++i) {
      PASSBAND_RETURN_IF_ERROR(ExpectValue(i * workload_.row_bytes, workload_.row_bytes));
      if (i % kKeysOfOne == kKeysOfOne - 1 || i + 1 == rows) {
        PASSBAND_RETURN_IF_ERROR(Expect("END"));
      }
    }
    return std::span<const std::byte>(landing_.data(), workload_.gather_bytes());
  }

  Status Put(uint32_t value, std::span<const std::byte> bytes) override {
    AddSet(fmt::format("value{}", value), bytes);
    return Expect("STORED");
  }

  StatusOr<std::span<const std::byte>> Get(uint32_t value) override {
    Add(fmt::format("get value{}\r\n", value));
    PASSBAND_RETURN_IF_ERROR(ExpectValue(0, kValueBytes));
    PASSBAND_RETURN_IF_ERROR(Expect("END"));
    return std::span<const std::byte>(landing_.data(), kValueBytes);
  }

 private:
  void Add(std::string_view text) { stream_.out() += text; }
  void AddSet(std::string_view key, std::span<const std::byte> bytes) {
    Add(fmt::format("set {} 0 0 {}\r\n", key, bytes.size()));
    Add({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    Add("\r\n");
  }

  Status Expect(std::string_view due) {
    PASSBAND_ASSIGN_OR_RETURN(const std::string_view line, stream_.Line());
    if (line == due) return OkStatus();
    return Error(StatusCode::kDataLoss, "memcached: '{}' where {} was due", line, due);
  }
  // VALUE key flags size
  Status ExpectValue(size_t at, size_t size) {
    PASSBAND_ASSIGN_OR_RETURN(const std::string_view line, stream_.Line());
    size_t said = 0;
    if (line.starts_with("VALUE ")) {
      std::from_chars(line.data() + line.rfind(' ') + 1, line.data() + line.size(), said);
    }
    if (said == size) return stream_.Take(std::span(landing_).subspan(at, size));
    return Error(StatusCode::kDataLoss, "memcached: '{}' where a value of {} bytes was due", line,
                 size);
  }

  const Workload workload_;
  const Link link_;
  std::unique_ptr<PeerProcess> process_;
  Stream stream_;
  std::vector<std::byte> landing_;
};

}  // namespace

StatusOr<std::unique_ptr<Peer>> StartMemcached(const Workload& workload, Link link) {
  auto out = std::make_unique<Memcached>(workload, link);
  PASSBAND_RETURN_IF_ERROR(out->Start());
  return std::unique_ptr<Peer>(std::move(out));
}

}  // namespace passband::bench
