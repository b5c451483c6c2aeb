// Redis, every gather one pipeline: GETRANGE of rows that lie side by side in one string
// a head, or MGET of a key a row. The commands go out as they are made, so that the server
// works while the client does.
#include <algorithm>
#include <charconv>
#include <iterator>

#include "bench/peers/peer.h"
#include "bench/peers/peer_process.h"
#include "bench/peers/stream.h"

namespace passband::bench {
namespace {

constexpr size_t kPushEvery = 256;  // Commands; and keys of one MGET.

class Redis final : public Peer {
 public:
  Redis(const Workload& workload, Link link) : workload_(workload), link_(link) {
    landing_.resize(std::max(workload.gather_bytes(), kValueBytes));
  }

  Status Start() {
    PASSBAND_ASSIGN_OR_RETURN(process_,
                              PeerProcess::Start(
                                  [](const PeerProcess::Place& place) -> std::vector<std::string> {
                                    return {"redis-server",
                                            "--bind",
                                            "127.0.0.1",
                                            "--port",
                                            std::to_string(place.port),
                                            "--unixsocket",
                                            place.socket(),
                                            "--dir",
                                            place.folder,
                                            "--save",
                                            "",
                                            "--appendonly",
                                            "no",
                                            "--daemonize",
                                            "no"};
                                  },
                                  link_ == Link::kTcp));
    return link_ == Link::kTcp ? stream_.ConnectTcp(process_->place().port)
                               : stream_.ConnectUnix(process_->place().socket());
  }

  std::string name() const override { return "redis"; }
  std::string link() const override { return link_ == Link::kTcp ? "tcp" : "unix"; }
  std::vector<std::string> gathers() const override { return {"GETRANGE", "MGET"}; }

  Status Fill() override {
    std::vector<std::byte> head(size_t{kTokens} * workload_.row_bytes);
    for (uint32_t layer = 0; layer < workload_.layers; ++layer) {
      for (uint32_t h = 0; h < kKvHeads; ++h) {
        for (uint32_t token = 0; token < kTokens; ++token) {
          const auto row =
              std::span(head).subspan(size_t{token} * workload_.row_bytes, workload_.row_bytes);
          Write(PlaceOf(layer, h, token), row);
          const auto key = RowKey(layer, h, token);
          AddSet({key.data(), key.size()}, row);
        }
        head_keys_.push_back(fmt::format("h{:02x}{:02x}", layer, h));
        AddSet(head_keys_.back(), head);
        for (uint32_t i = 0; i <= kTokens; ++i) PASSBAND_RETURN_IF_ERROR(ExpectOk());
      }
    }
    return OkStatus();
  }

  StatusOr<std::span<const std::byte>> Gather(size_t which, const GatherRequest& request) override {
    PASSBAND_RETURN_IF_ERROR(which == 0 ? GetRanges(request) : Mgets(request));
    return std::span<const std::byte>(landing_.data(), workload_.gather_bytes());
  }

  Status Put(uint32_t value, std::span<const std::byte> bytes) override {
    AddSet(fmt::format("value{}", value), bytes);
    return ExpectOk();
  }

  StatusOr<std::span<const std::byte>> Get(uint32_t value) override {
    Add("*2\r\n");
    AddWord("GET");
    AddWord(fmt::format("value{}", value));
    PASSBAND_RETURN_IF_ERROR(ExpectString(0, kValueBytes));
    return std::span<const std::byte>(landing_.data(), kValueBytes);
  }

 private:
  void Add(std::string_view text) { stream_.out() += text; }
  void AddNumber(uint64_t number) {
    const fmt::format_int text(number);
    Add({text.data(), text.size()});
  }
  void AddWord(std::string_view word) {
    Add("$");
    AddNumber(word.size());
    Add("\r\n");
    Add(word);
    Add("\r\n");
  }
  void AddSet(std::string_view key, std::span<const std::byte> bytes) {
    Add("*3\r\n");
    AddWord("SET");
    AddWord(key);
    AddWord({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  Status GetRanges(const GatherRequest& request) {
    const size_t rows = request.tokens.size();
    for (size_t i = 0; i < rows; ++i) {
      const auto head = static_cast<uint32_t>(i / workload_.per_head());
      const uint64_t first = uint64_t{request.tokens[i]} * workload_.row_bytes;
      const fmt::format_int from(first);
      const fmt::format_int to(first + workload_.row_bytes - 1);
      Add("*4\r\n$8\r\nGETRANGE\r\n");
      AddWord(head_keys_[request.layer * kKvHeads + head]);
      AddWord({from.data(), from.size()});
      AddWord({to.data(), to.size()});
      if (i % kPushEvery == kPushEvery - 1) PASSBAND_RETURN_IF_ERROR(stream_.Push());
    }
    for (size_t i = 0; i < rows; ++i) PASSBAND_RETURN_IF_ERROR(ExpectRow(i));
    return OkStatus();
  }

  Status Mgets(const GatherRequest& request) {
    const size_t rows = request.tokens.size();
    for (size_t i = 0; i < rows; ++i) {
      if (i % kPushEvery == 0) {
        PASSBAND_RETURN_IF_ERROR(stream_.Push());
        Add("*");
        AddNumber(std::min(kPushEvery, rows - i) + 1);
        Add("\r\n$4\r\nMGET\r\n");
      }
      const auto head = static_cast<uint32_t>(i / workload_.per_head());
      const auto key = RowKey(request.layer, head, request.tokens[i]);
      AddWord({key.data(), key.size()});
    }
    for (size_t i = 0; i < rows; ++i) {
      if (i % kPushEvery == 0) {
        PASSBAND_RETURN_IF_ERROR(ExpectSize('*', std::min(kPushEvery, rows - i)));
      }
      PASSBAND_RETURN_IF_ERROR(ExpectRow(i));
    }
    return OkStatus();
  }

  Status ExpectOk() {
    PASSBAND_ASSIGN_OR_RETURN(const std::string_view line, stream_.Line());
    if (line == "+OK") return OkStatus();
    return Error(StatusCode::kInternal, "redis: {}", line);
  }
  Status ExpectSize(char kind, size_t size) {
    PASSBAND_ASSIGN_OR_RETURN(const std::string_view line, stream_.Line());
    size_t said = 0;
    if (!line.empty() && line[0] == kind) {
      std::from_chars(line.data() + 1, line.data() + line.size(), said);
    }
    if (said == size) return OkStatus();
    return Error(StatusCode::kDataLoss, "redis: '{}' where {}{} was due", line, kind, size);
  }
  Status ExpectString(size_t at, size_t size) {
    PASSBAND_RETURN_IF_ERROR(ExpectSize('$', size));
    return stream_.Take(std::span(landing_).subspan(at, size));
  }
  Status ExpectRow(size_t row) {
    return ExpectString(row * workload_.row_bytes, workload_.row_bytes);
  }

  const Workload workload_;
  const Link link_;
  std::unique_ptr<PeerProcess> process_;
  Stream stream_;
  std::vector<std::string> head_keys_;
  std::vector<std::byte> landing_;
};

}  // namespace

StatusOr<std::unique_ptr<Peer>> StartRedis(const Workload& workload, Link link) {
  auto out = std::make_unique<Redis>(workload, link);
  PASSBAND_RETURN_IF_ERROR(out->Start());
  return std::unique_ptr<Peer>(std::move(out));
}

}  // namespace passband::bench
