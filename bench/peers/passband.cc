// Passband through its SDK: a fetch gathers rows; a put appends 1 MiB of one layer's
// tokens and waits until they are stored; a get reads them.
#include <array>
#include <cstring>

#include "bench/peers/peer.h"
#include "sdk/remote_service.h"
#include "tests/support/server_process.h"

namespace passband::bench {
namespace {

class Passband final : public Peer {
 public:
  Passband(const Workload& workload, Link link)
      : workload_(workload),
        link_(link),
        value_tokens_(static_cast<uint32_t>(kValueBytes / kKvHeads / workload.row_bytes)),
        block_bytes_(size_t{kKvHeads} * kBlockTokens * workload.row_bytes) {}

  Status Start() {
    const std::string tls = link_ == Link::kTcp ? "tcp,self" : "posix,self";
    const uint64_t stored = uint64_t{workload_.layers} * kKvHeads * kTokens * workload_.row_bytes +
                            kValues * kValueBytes;
    PASSBAND_ASSIGN_OR_RETURN(
        server_, test::ServerProcess::Start({.binary = PASSBAND_SERVER_BINARY,
                                             .flags = {"--ram", std::to_string(stored + stored / 8),
                                                       "--transports", tls, "--log-level", "warn"},
                                             .cpu = kServerCpu}));
    RemoteOptions remote;
    remote.control_address = server_->control_address();
    remote.transports = tls;
    PASSBAND_ASSIGN_OR_RETURN(service_, RemoteService::Connect(remote));
    const auto head_dim = static_cast<uint16_t>(workload_.row_bytes / 4);
    const ModelInfo model = {.fingerprint = {std::string(64, 'b'), std::string(64, 'e')},
                             .name = "bench",
                             .layers = workload_.layers,
                             .query_heads = kKvHeads,
                             .kv_heads = kKvHeads,
                             .head = {.head_dim = head_dim, .rotary_dim = head_dim}};
    PASSBAND_RETURN_IF_ERROR(service_->RegisterModel(model));
    PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence rows,
                              service_->Open({.model = model.fingerprint.text(), .token_ids = {}}));
    PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence values,
                              service_->Open({.model = model.fingerprint.text(), .token_ids = {}}));
    rows_ = rows.id;
    values_ = values.id;
    return OkStatus();
  }

  std::string name() const override { return "passband"; }
  std::string link() const override { return link_ == Link::kTcp ? "tcp" : "shm"; }
  std::vector<std::string> gathers() const override { return {"fetch"}; }

  Status Fill() override {
    std::vector<std::byte> rows(block_bytes_);
    for (uint32_t layer = 0; layer < workload_.layers; ++layer) {
      for (uint32_t first = 0; first < kTokens; first += kBlockTokens) {
        for (uint32_t i = 0; i < kKvHeads * kBlockTokens; ++i) {
          Write(PlaceOf(layer, i / kBlockTokens, first + i % kBlockTokens),
                std::span(rows).subspan(size_t{i} * workload_.row_bytes, workload_.row_bytes));
        }
        PASSBAND_RETURN_IF_ERROR(service_->Append({rows_, layer, first, kBlockTokens, rows}));
      }
    }
    return service_->Flush(rows_);
  }

  StatusOr<std::span<const std::byte>> Gather(size_t, const GatherRequest& request) override {
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      groups_[head] = {
          rows_, request.layer, head,
          request.tokens.subspan(size_t{head} * workload_.per_head(), workload_.per_head())};
    }
    pending_.reset();
    pending_ = service_->StartFetch({groups_, workload_.row_bytes, {}});
    return pending_->Wait();
  }

  // Blocks that cannot be changed: starting over drops the values of the last turn.
  Status Put(uint32_t value, std::span<const std::byte> bytes) override {
    if (value == 0) PASSBAND_RETURN_IF_ERROR(service_->Truncate(values_, 0));
    const uint64_t first = uint64_t{value} * value_tokens_;
    for (uint32_t at = 0; at < value_tokens_; at += kBlockTokens) {
      PASSBAND_RETURN_IF_ERROR(
          service_->Append({values_, 0, first + at, kBlockTokens,
                            bytes.subspan(at / kBlockTokens * block_bytes_, block_bytes_)}));
    }
    return service_->Flush(values_);
  }

  StatusOr<std::span<const std::byte>> Get(uint32_t value) override {
    pending_.reset();
    pending_ = service_->StartRead({values_, 0, uint64_t{value} * value_tokens_, value_tokens_});
    return pending_->Wait();
  }

  // Put as [block][kv_head][token of the block], got as [kv_head][token].
  bool IsValue(std::span<const std::byte> got, std::span<const std::byte> put) const override {
    if (got.size() != put.size()) return false;
    const size_t run = size_t{kBlockTokens} * workload_.row_bytes;
    const size_t blocks = value_tokens_ / kBlockTokens;
    for (size_t block = 0; block < blocks; ++block) {
      for (size_t head = 0; head < kKvHeads; ++head) {
        if (std::memcmp(got.data() + (head * blocks + block) * run,
                        put.data() + (block * kKvHeads + head) * run, run) != 0) {
          return false;
        }
      }
    }
    return true;
  }

 private:
  const Workload workload_;
  const Link link_;
  const uint32_t value_tokens_;
  const size_t block_bytes_;
  std::unique_ptr<test::ServerProcess> server_;
  std::unique_ptr<RemoteService> service_;
  SequenceId rows_;
  SequenceId values_;
  std::array<FetchGroup, kKvHeads> groups_;
  std::unique_ptr<PendingRows> pending_;
};

}  // namespace

StatusOr<std::unique_ptr<Peer>> StartPassband(const Workload& workload, Link link) {
  auto out = std::make_unique<Passband>(workload, link);
  PASSBAND_RETURN_IF_ERROR(out->Start());
  return std::unique_ptr<Peer>(std::move(out));
}

}  // namespace passband::bench
