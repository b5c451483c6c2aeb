#include <algorithm>
#include <deque>
#include <utility>

#include "sdk/remote_rows.h"
#include "transport/codec.h"

namespace passband {
namespace {

Time Now() { return std::chrono::steady_clock::now(); }

class Failed final : public PendingRows {
 public:
  explicit Failed(Status status) : status_(std::move(status)) {}
  bool Ready() override { return true; }
  StatusOr<std::span<const std::byte>> Wait() override { return status_; }

 private:
  Status status_;
};

// What the calls of one fetch keep alive.
struct Landed {
  LandingBuffer buffer;
  std::deque<transport::FetchBuilder> requests;
};

class FetchRows final : public PendingRows {
 public:
  FetchRows(const TransferOptions& options, std::shared_ptr<Landed> landed,
            std::vector<std::shared_ptr<Call>> calls, uint64_t rows)
      : options_(options), landed_(std::move(landed)), calls_(std::move(calls)), rows_(rows) {
    DataChannel::Lock lock(options_.channel->driver());
    for (const auto& call : calls_) options_.channel->Submit(call);
  }

  ~FetchRows() override {
    if (collected_) return;
    DataChannel::Lock lock(options_.channel->driver());
    for (const auto& call : calls_) options_.channel->Abandon(call);
  }

  bool Ready() override {
    if (collected_) return true;
    DataChannel::Lock lock(options_.channel->driver());
    if (AllDone()) return true;
    options_.channel->driver().Poll(lock);
    return AllDone() || Now() >= calls_.back()->deadline;
  }

  StatusOr<std::span<const std::byte>> Wait() override {
    if (!collected_) Collect();
    if (!status_.ok()) return status_;
    return std::span<const std::byte>(landed_->buffer.bytes());
  }

 private:
  bool AllDone() const {
    return std::all_of(calls_.begin(), calls_.end(), [](const auto& call) { return call->done; });
  }

  void Collect() {
    const Time start = Now();
    {
      DataChannel::Lock lock(options_.channel->driver());
      for (const auto& call : calls_) {
        if (status_.ok()) {
          status_ = options_.channel->Wait(lock, call);
        } else {
          options_.channel->Abandon(call);
        }
      }
    }
    collected_ = true;
    TrafficCounters& traffic = *options_.traffic;
    traffic.fetch_wait_nanoseconds += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Now() - start).count());
    if (!status_.ok()) return;
    traffic.fetched_rows += rows_;
    traffic.fetched_bytes += landed_->buffer.bytes().size();
  }

  const TransferOptions options_;
  const std::shared_ptr<Landed> landed_;
  const std::vector<std::shared_ptr<Call>> calls_;
  const uint64_t rows_;
  bool collected_ = false;
  Status status_;
};

// Cuts the groups of a request into parts the server answers at once.
class Splitter {
 public:
  Splitter(const TransferOptions& options, const FetchRequest& request, Landed& landed)
      : options_(options), request_(request), landed_(landed) {
    const DataChannel::Limits& limits = options.channel->limits();
    max_rows_ = std::min<uint64_t>(transport::kMaxFetchRows, limits.max_rows);
    max_rows_ = std::min(max_rows_, limits.max_reply_bytes / request.row_bytes);
    max_rows_ = std::max<uint64_t>(max_rows_, 1);
  }

  StatusOr<std::vector<std::shared_ptr<Call>>> Split() {
    for (const FetchGroup& group : request_.groups) PASSBAND_RETURN_IF_ERROR(Add(group));
    PASSBAND_RETURN_IF_ERROR(EndPart());
    return std::move(calls_);
  }

 private:
  Status Add(const FetchGroup& group) {
    if (group.layer > UINT16_MAX || group.kv_head > UINT16_MAX) {
      return Error(StatusCode::kInvalidArgument, "layer {}, kv head {}: no model has so many",
                   group.layer, group.kv_head);
    }
    for (size_t at = 0; at < group.tokens.size();) {
      if (builder_ != nullptr && (builder_->row_count() == max_rows_ ||
                                  builder_->group_count() == transport::kMaxFetchGroups)) {
        PASSBAND_RETURN_IF_ERROR(EndPart());
      }
      if (builder_ == nullptr) builder_ = &landed_.requests.emplace_back();
      const size_t count =
          std::min<size_t>(group.tokens.size() - at, max_rows_ - builder_->row_count());
      builder_->Add(group.sequence.value(), static_cast<uint16_t>(group.layer),
                    static_cast<uint16_t>(group.kv_head), group.tokens.subspan(at, count));
      at += count;
    }
    return OkStatus();
  }

  Status EndPart() {
    if (builder_ == nullptr) return OkStatus();
    DataChannel& channel = *options_.channel;
    PASSBAND_ASSIGN_OR_RETURN(
        transport::FetchHeader header,
        builder_->Finish(channel.session(), channel.NewRequestId(), request_.row_bytes));
    if (options_.checksum) header.request.flags |= transport::kWantChecksum;
    auto call = std::make_shared<Call>();
    call->header = header;
    call->payload = builder_->payload();
    call->send.mode = transport::SendMode::kEager;
    const uint64_t bytes = uint64_t{builder_->row_count()} * request_.row_bytes;
    call->landing = landed_.buffer.bytes().subspan(placed_, bytes);
    call->landing_memory = landed_.buffer.memory();
    call->expected_rows = builder_->row_count();
    placed_ += bytes;
    calls_.push_back(std::move(call));
    builder_ = nullptr;
    return OkStatus();
  }

  const TransferOptions& options_;
  const FetchRequest& request_;
  Landed& landed_;
  uint64_t max_rows_ = 1;
  transport::FetchBuilder* builder_ = nullptr;
  uint64_t placed_ = 0;
  std::vector<std::shared_ptr<Call>> calls_;
};

}  // namespace

TrafficStats TrafficCounters::Snapshot() const {
  return {
      .fetch_requests = fetch_requests,
      .fetched_rows = fetched_rows,
      .fetched_bytes = fetched_bytes,
      .appended_bytes = appended_bytes,
      .read_bytes = read_bytes,
      .slice_bytes = slice_bytes,
      .fetch_wait_seconds = static_cast<double>(fetch_wait_nanoseconds) * 1e-9,
  };
}

std::unique_ptr<PendingRows> FailedRows(Status status) {
  return std::make_unique<Failed>(std::move(status));
}

std::unique_ptr<PendingRows> StartRemoteFetch(const TransferOptions& options,
                                              const FetchRequest& request,
                                              const SelectionReport& report) {
  uint64_t rows = 0;
  for (const FetchGroup& group : request.groups) rows += group.tokens.size();
  if (request.row_bytes == 0) {
    return FailedRows(Error(StatusCode::kInvalidArgument, "a fetch of rows of 0 bytes"));
  }
  auto landed = std::make_shared<Landed>();
  std::vector<std::shared_ptr<Call>> calls;
  if (rows > 0) {
    auto buffer = options.pool->Allocate(rows * request.row_bytes);
    if (!buffer.ok()) return FailedRows(buffer.status());
    landed->buffer = *std::move(buffer);
    auto split = Splitter(options, request, *landed).Split();
    if (!split.ok()) return FailedRows(split.status());
    calls = *std::move(split);
    auto& first = std::get<transport::FetchHeader>(calls.front()->header);
    first.selected_rows = report.selected_rows;
    first.hot_rows = report.hot_rows;
    first.full_attention_bytes = report.full_attention_bytes;
  }
  const Time deadline = Now() + options.timeout;
  for (const auto& call : calls) {
    call->owner = landed;
    call->deadline = deadline;
  }
  ++options.traffic->fetch_requests;
  return std::make_unique<FetchRows>(options, std::move(landed), std::move(calls), rows);
}

}  // namespace passband
