#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "sdk/remote_rows.h"
#include "transport/codec.h"

namespace passband {
namespace {

constexpr uint64_t kWindowBytes = 4 << 20;
constexpr uint64_t kWindowRows = 1 << 20;  // Or slices.
constexpr size_t kWindowsUnderWay = 4;
constexpr uint64_t kBlockTokens = 64;

Time Now() { return std::chrono::steady_clock::now(); }

// Whole blocks where they fit, so that the server copies long runs too.
uint64_t WindowTokens(const RangePlan& plan, const DataChannel::Limits& limits) {
  const uint64_t token_bytes = uint64_t{plan.kv_heads} * plan.item_bytes;
  uint64_t tokens = std::min(kWindowBytes, limits.max_reply_bytes) / token_bytes;
  tokens = std::min<uint64_t>({tokens, transport::kMaxRangeTokens, kWindowRows / plan.kv_heads});
  if (tokens > kBlockTokens) tokens -= tokens % kBlockTokens;
  return std::max<uint64_t>(tokens, 1);
}

class RangeRows final : public PendingRows {
 public:
  RangeRows(const TransferOptions& options, const RangePlan& plan)
      : options_(options),
        plan_(plan),
        window_tokens_(WindowTokens(plan, options.channel->limits())),
        result_(std::make_shared<LandingBuffer>()) {}

  ~RangeRows() override {
    DataChannel::Lock lock(options_.channel->driver());
    for (const Window& window : windows_) options_.channel->Abandon(window.call);
  }

  Status Start() {
    const uint64_t bytes = plan_.range.count * plan_.kv_heads * plan_.item_bytes;
    if (bytes > 0) {
      PASSBAND_ASSIGN_OR_RETURN(*result_, options_.pool->Allocate(bytes));
    }
    return AskOn();
  }

  bool Ready() override {
    while (status_.ok() && !windows_.empty()) {
      {
        DataChannel::Lock lock(options_.channel->driver());
        options_.channel->driver().Poll(lock);
        const Call& call = *windows_.front().call;
        if (!call.done && Now() < call.deadline) return false;
      }
      CollectOne();
    }
    return true;
  }

  StatusOr<std::span<const std::byte>> Wait() override {
    while (status_.ok() && !windows_.empty()) CollectOne();
    if (!status_.ok()) return status_;
    if (!std::exchange(counted_, true)) {
      (plan_.profile.has_value() ? options_.traffic->slice_bytes : options_.traffic->read_bytes) +=
          result_->bytes().size();
    }
    return std::span<const std::byte>(result_->bytes());
  }

 private:
  struct Window {
    std::shared_ptr<Call> call;
    std::shared_ptr<LandingBuffer> landing;  // The result itself when in place.
    uint64_t first = 0;                      // From the range's first token.
    uint64_t count = 0;
  };

  // Keeps as many windows under way as allowed.
  Status AskOn() {
    while (asked_ < plan_.range.count && windows_.size() < kWindowsUnderWay) {
      const uint64_t count = std::min(window_tokens_, plan_.range.count - asked_);
      PASSBAND_ASSIGN_OR_RETURN(Window window, NewWindow(asked_, count));
      asked_ += count;
      DataChannel::Lock lock(options_.channel->driver());
      options_.channel->Submit(window.call);
      windows_.push_back(std::move(window));
    }
    return OkStatus();
  }

  StatusOr<Window> NewWindow(uint64_t first, uint64_t count) {
    Window out{
        .call = std::make_shared<Call>(), .landing = result_, .first = first, .count = count};
    Call& call = *out.call;
    const uint64_t bytes = count * plan_.kv_heads * plan_.item_bytes;
    if (plan_.kv_heads == 1 || count == plan_.range.count) {
      call.landing = result_->bytes().subspan(first * plan_.item_bytes, bytes);
    } else {
      out.landing = std::make_shared<LandingBuffer>();
      PASSBAND_ASSIGN_OR_RETURN(*out.landing, options_.pool->Allocate(bytes));
      call.landing = out.landing->bytes();
    }
    call.landing_memory = out.landing->memory();
    call.owner = out.landing;
    call.expected_rows = count * plan_.kv_heads;
    call.deadline = Now() + options_.timeout;
    call.bulk = true;
    call.send.mode = transport::SendMode::kEager;
    call.header = HeaderOf(first, static_cast<uint32_t>(count));
    return out;
  }

  Call::Header HeaderOf(uint64_t first, uint32_t count) const {
    const transport::RequestContext& session = options_.channel->session();
    const uint64_t id = options_.channel->NewRequestId();
    const auto fill = [&](auto header) -> Call::Header {
      header.sequence = plan_.range.sequence.value();
      header.first_token = plan_.range.first_token + first;
      header.count = count;
      header.layer = static_cast<uint16_t>(plan_.range.layer);
      if (options_.checksum) header.request.flags |= transport::kWantChecksum;
      return header;
    };
    if (!plan_.profile.has_value()) return fill(transport::NewRead(session, id));
    transport::SlicesHeader header = transport::NewSlices(session, id);
    header.profile = *plan_.profile;
    return fill(header);
  }

  void CollectOne() {
    {
      DataChannel::Lock lock(options_.channel->driver());
      status_ = options_.channel->Wait(lock, windows_.front().call);
    }
    const Window window = std::move(windows_.front());
    windows_.pop_front();
    if (!status_.ok()) return;
    if (window.landing != result_) Place(window);
    status_ = AskOn();
  }

  void Place(const Window& window) const {
    const uint64_t run = window.count * plan_.item_bytes;
    std::byte* to = result_->bytes().data() + window.first * plan_.item_bytes;
    const std::byte* from = window.landing->bytes().data();
    for (uint32_t head = 0; head < plan_.kv_heads; ++head) {
      std::memcpy(to + head * plan_.range.count * plan_.item_bytes, from + head * run, run);
    }
  }

  const TransferOptions options_;
  const RangePlan plan_;
  const uint64_t window_tokens_;
  const std::shared_ptr<LandingBuffer> result_;
  std::deque<Window> windows_;
  uint64_t asked_ = 0;
  Status status_;
  bool counted_ = false;
};

}  // namespace

std::unique_ptr<PendingRows> StartRemoteRange(const TransferOptions& options,
                                              const RangePlan& plan) {
  if (plan.range.layer > UINT16_MAX || plan.kv_heads == 0 || plan.item_bytes == 0 ||
      plan.range.count > transport::kMaxToken) {
    return FailedRows(Error(StatusCode::kInvalidArgument,
                            "layer {}, {} tokens: no sequence holds them", plan.range.layer,
                            plan.range.count));
  }
  auto rows = std::make_unique<RangeRows>(options, plan);
  if (Status started = rows->Start(); !started.ok()) return FailedRows(std::move(started));
  return rows;
}

}  // namespace passband
