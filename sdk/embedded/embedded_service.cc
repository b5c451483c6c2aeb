#include "sdk/embedded/embedded_service.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "kernels/gather.h"
#include "kvstore/store.h"
#include "sdk/row_shape.h"

namespace passband {
namespace {

constexpr OwnerId kOwner{1};
constexpr uint32_t kDefaultListed = 1000;

Time Now() { return std::chrono::steady_clock::now(); }

// An answer that is there already.
class DoneRows final : public PendingRows {
 public:
  explicit DoneRows(Status status) : status_(std::move(status)) {}
  DoneRows(std::unique_ptr<std::byte[]> bytes, size_t size)
      : bytes_(std::move(bytes)), size_(size) {}

  bool Ready() override { return true; }
  StatusOr<std::span<const std::byte>> Wait() override {
    if (!status_.ok()) return status_;
    return std::span<const std::byte>(bytes_.get(), size_);
  }

 private:
  Status status_;
  std::unique_ptr<std::byte[]> bytes_;
  size_t size_ = 0;
};

SequenceStat ToStat(const SequenceInfo& info) {
  return {
      .id = info.id,
      .tenant = info.tenant,
      .model = info.model,
      .sealed = info.state == SequenceState::kSealed,
      .committed_tokens = info.committed_tokens,
      .known_tokens = info.known_tokens,
      .shared_tokens = info.shared_tokens,
      .resident_bytes = info.resident_bytes,
      .idle_seconds = info.idle_seconds,
      .ttl = std::chrono::milliseconds(static_cast<int64_t>(info.ttl_seconds * 1e3)),
      .pinned_for =
          std::chrono::milliseconds(static_cast<int64_t>(std::ceil(info.pin_seconds * 1e3))),
  };
}

struct Counters {
  std::atomic<uint64_t> fetch_requests{0};
  std::atomic<uint64_t> fetched_rows{0};
  std::atomic<uint64_t> fetched_bytes{0};
  std::atomic<uint64_t> appended_bytes{0};
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> slice_bytes{0};
  std::atomic<uint64_t> fetch_nanoseconds{0};
};

class Embedded final : public KvService {
 public:
  Embedded(std::shared_ptr<Store> store, EmbeddedOptions options)
      : store_(std::move(store)), options_(std::move(options)) {}

  std::unique_ptr<KvService> ForTenant(const std::string& tenant) const {
    EmbeddedOptions options = options_;
    options.tenant = tenant;
    return std::make_unique<Embedded>(store_, std::move(options));
  }

  Status RegisterModel(const ModelInfo& model) override {
    return store_->RegisterModel(
        {model.fingerprint.text(),
         model.name,
         {model.layers, model.kv_heads, static_cast<uint32_t>(model.head.row_bytes())}});
  }

  StatusOr<OpenedSequence> Open(const OpenParams& params) override {
    PASSBAND_ASSIGN_OR_RETURN(const Store::OpenResult opened,
                              store_->Open({.tenant = options_.tenant,
                                            .model = params.model,
                                            .owner = kOwner,
                                            .token_ids = params.token_ids,
                                            .share_prefix = params.share_prefix,
                                            .max_tokens = params.max_tokens,
                                            .ttl = params.ttl}));
    return OpenedSequence{opened.id, opened.matched_tokens};
  }

  StatusOr<SequenceId> Fork(SequenceId sequence, uint64_t tokens) override {
    PASSBAND_RETURN_IF_ERROR(PoisonOf(sequence));
    return store_->Fork(options_.tenant, sequence, tokens, kOwner);
  }

  Status Extend(SequenceId sequence, uint64_t first, std::span<const uint32_t> token_ids) override {
    return store_->ExtendTokenIds(options_.tenant, sequence, first, token_ids);
  }

  Status Truncate(SequenceId sequence, uint64_t tokens) override {
    PASSBAND_RETURN_IF_ERROR(store_->Truncate(options_.tenant, sequence, tokens));
    Forgive(sequence);
    return OkStatus();
  }

  Status Seal(SequenceId sequence) override {
    PASSBAND_RETURN_IF_ERROR(PoisonOf(sequence));
    return store_->Seal(options_.tenant, sequence);
  }

  Status Pin(SequenceId sequence, std::chrono::milliseconds time) override {
    return store_->Pin(options_.tenant, sequence, time);
  }

  Status Unpin(SequenceId sequence) override { return store_->Unpin(options_.tenant, sequence); }

  Status Close(SequenceId sequence) override {
    Forgive(sequence);
    PASSBAND_RETURN_IF_ERROR(store_->Close(options_.tenant, sequence));
    MutexLock lock(mutex_);
    room_.notify_all();
    return OkStatus();
  }

  StatusOr<SequenceStat> Stat(SequenceId sequence) override {
    PASSBAND_ASSIGN_OR_RETURN(const SequenceInfo info, store_->Stat(options_.tenant, sequence));
    return ToStat(info);
  }

  StatusOr<std::vector<SequenceStat>> List(SequenceId after, uint32_t limit) override {
    std::vector<SequenceStat> out;
    for (const SequenceInfo& info :
         store_->List(options_.tenant, after, limit == 0 ? kDefaultListed : limit)) {
      out.push_back(ToStat(info));
    }
    return out;
  }

  StatusOr<uint64_t> Lookup(const std::string& model,
                            std::span<const uint32_t> token_ids) override {
    return store_->Lookup(options_.tenant, model, token_ids);
  }

  std::unique_ptr<PendingRows> StartFetch(const FetchRequest& request) override;
  std::unique_ptr<PendingRows> StartRead(const RangeRequest& request) override;
  std::unique_ptr<PendingRows> StartSlices(const RangeRequest& request,
                                           const std::shared_ptr<const Profile>& profile) override;
  Status Append(const AppendRequest& request) override;
  Status Flush(SequenceId sequence) override { return PoisonOf(sequence); }
  void Report(const SelectionReport&) override {}
  TrafficStats traffic() const override;
  std::string transport() const override { return "embedded"; }

 private:
  // The first failure of an append, as RemoteService remembers it.
  Status PoisonOf(SequenceId sequence) const {
    MutexLock lock(mutex_);
    const auto found = poison_.find(sequence);
    return found == poison_.end() ? OkStatus() : found->second;
  }
  void Forgive(SequenceId sequence) {
    MutexLock lock(mutex_);
    poison_.erase(sequence);
  }

  Status CheckRowBytes(const FetchRequest& request) const;
  Status Encode(const RangeRequest& request, const Profile& profile, std::byte* out) const;
  StatusOr<Store::AppendSlot> ReserveWithin(const AppendRequest& request, Time until);

  const std::shared_ptr<Store> store_;
  const EmbeddedOptions options_;
  Counters counters_;
  mutable Mutex mutex_;
  std::condition_variable_any room_;
  std::unordered_map<SequenceId, Status> poison_ ABSL_GUARDED_BY(mutex_);
};

Status Embedded::CheckRowBytes(const FetchRequest& request) const {
  if (request.row_bytes == 0) {
    return Error(StatusCode::kInvalidArgument, "a fetch of rows of 0 bytes");
  }
  for (const FetchGroup& group : request.groups) {
    PASSBAND_ASSIGN_OR_RETURN(const KvShape shape,
                              store_->ShapeOf(options_.tenant, group.sequence));
    if (shape.row_bytes == request.row_bytes) continue;
    return Error(StatusCode::kInvalidArgument, "sequence {} has rows of {} bytes, not {}",
                 group.sequence, shape.row_bytes, request.row_bytes);
  }
  return OkStatus();
}

std::unique_ptr<PendingRows> Embedded::StartFetch(const FetchRequest& request) {
  const Time start = Now();
  if (Status status = CheckRowBytes(request); !status.ok()) {
    return std::make_unique<DoneRows>(std::move(status));
  }
  std::vector<RowGroup> groups;
  groups.reserve(request.groups.size());
  for (const FetchGroup& group : request.groups) {
    groups.push_back({group.sequence, group.layer, group.kv_head, group.tokens});
  }
  PinnedRows rows;
  if (Status status = store_->Resolve(options_.tenant, groups, rows); !status.ok()) {
    return std::make_unique<DoneRows>(std::move(status));
  }
  const size_t bytes = rows.rows().size() * request.row_bytes;
  auto out = std::make_unique_for_overwrite<std::byte[]>(bytes);
  kernels::GatherRows(rows.rows(), request.row_bytes, out.get());
  ++counters_.fetch_requests;
  counters_.fetched_rows += rows.rows().size();
  counters_.fetched_bytes += bytes;
  counters_.fetch_nanoseconds += static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Now() - start).count());
  return std::make_unique<DoneRows>(std::move(out), bytes);
}

std::unique_ptr<PendingRows> Embedded::StartRead(const RangeRequest& request) {
  PinnedRows rows;
  const auto read = [&]() -> StatusOr<KvShape> {
    PASSBAND_ASSIGN_OR_RETURN(const KvShape shape,
                              store_->ShapeOf(options_.tenant, request.sequence));
    PASSBAND_RETURN_IF_ERROR(store_->ResolveRange(options_.tenant, request.sequence, request.layer,
                                                  request.first_token, request.count, rows));
    return shape;
  };
  const StatusOr<KvShape> shape = read();
  if (!shape.ok()) return std::make_unique<DoneRows>(shape.status());
  const size_t bytes = rows.rows().size() * shape->row_bytes;
  auto out = std::make_unique_for_overwrite<std::byte[]>(bytes);
  kernels::GatherRows(rows.rows(), shape->row_bytes, out.get());
  counters_.read_bytes += bytes;
  return std::make_unique<DoneRows>(std::move(out), bytes);
}

Status Embedded::Encode(const RangeRequest& request, const Profile& profile, std::byte* out) const {
  PASSBAND_ASSIGN_OR_RETURN(const SequenceInfo info,
                            store_->Stat(options_.tenant, request.sequence));
  if (info.model != profile.fingerprint.text()) {
    return Error(StatusCode::kFailedPrecondition, "sequence {} is of model {}, the profile of {}",
                 request.sequence, info.model, profile.fingerprint.text());
  }
  PinnedRows pinned;
  PASSBAND_RETURN_IF_ERROR(store_->ResolveRange(options_.tenant, request.sequence, request.layer,
                                                request.first_token, request.count, pinned));
  const auto rows = pinned.rows();
  const size_t stride = profile.shape.row_bytes();
  // Rows of one head and one block lie next to each other: one call for each run.
  for (size_t at = 0; at < rows.size();) {
    const size_t head = at / request.count;
    const size_t limit = (head + 1) * request.count;
    size_t stop = at + 1;
    while (stop < limit && rows[stop] == rows[stop - 1] + stride) ++stop;
    kernels::EncodeSlices(*profile.spec(request.layer, static_cast<uint32_t>(head)), rows[at],
                          stride, stop - at, out + at * profile.slice_bytes());
    at = stop;
  }
  return OkStatus();
}

std::unique_ptr<PendingRows> Embedded::StartSlices(const RangeRequest& request,
                                                   const std::shared_ptr<const Profile>& profile) {
  if (profile->granularity != Profile::Granularity::kKvHead) {
    return std::make_unique<DoneRows>(
        Error(StatusCode::kInvalidArgument,
              "profile {}: chosen per query head; slices need one chosen per kv head",
              profile->digest()));
  }
  const size_t bytes = request.count * profile->kv_heads * profile->slice_bytes();
  auto out = std::make_unique_for_overwrite<std::byte[]>(bytes);
  if (Status encoded = Encode(request, *profile, out.get()); !encoded.ok()) {
    return std::make_unique<DoneRows>(std::move(encoded));
  }
  counters_.slice_bytes += bytes;
  return std::make_unique<DoneRows>(std::move(out), bytes);
}

StatusOr<Store::AppendSlot> Embedded::ReserveWithin(const AppendRequest& request, Time until) {
  while (true) {
    auto slot = store_->BeginAppend(options_.tenant, request.sequence, request.layer,
                                    request.first_token, request.count);
    if (slot.ok() || slot.status().code() != StatusCode::kResourceExhausted) return slot;
    const Time again = Now() + RetryAfter(slot.status()).value_or(std::chrono::milliseconds(50));
    if (again > until) return slot;
    MutexLock lock(mutex_);
    room_.wait_until(mutex_, again);
  }
}

Status Embedded::Append(const AppendRequest& request) {
  PASSBAND_RETURN_IF_ERROR(PoisonOf(request.sequence));
  PASSBAND_ASSIGN_OR_RETURN(const KvShape shape,
                            store_->ShapeOf(options_.tenant, request.sequence));
  PASSBAND_RETURN_IF_ERROR(CheckAppend(request, {shape.layers, shape.kv_heads, shape.row_bytes}));
  const auto append = [&]() -> Status {
    PASSBAND_ASSIGN_OR_RETURN(Store::AppendSlot slot,
                              ReserveWithin(request, Now() + options_.append_retry_budget));
    slot.Scatter(request.rows.data());
    return slot.Commit();
  };
  if (Status failed = append(); !failed.ok()) {
    MutexLock lock(mutex_);
    poison_.emplace(request.sequence, failed);
    return failed;
  }
  counters_.appended_bytes += request.rows.size();
  return OkStatus();
}

TrafficStats Embedded::traffic() const {
  return {
      .fetch_requests = counters_.fetch_requests,
      .fetched_rows = counters_.fetched_rows,
      .fetched_bytes = counters_.fetched_bytes,
      .appended_bytes = counters_.appended_bytes,
      .read_bytes = counters_.read_bytes,
      .slice_bytes = counters_.slice_bytes,
      .fetch_wait_seconds = static_cast<double>(counters_.fetch_nanoseconds) * 1e-9,
  };
}

}  // namespace

StatusOr<std::unique_ptr<KvService>> EmbeddedService::Create(uint64_t ram_bytes,
                                                             const std::string& tenant) {
  return Create(EmbeddedOptions{.ram_bytes = ram_bytes, .tenant = tenant});
}

StatusOr<std::unique_ptr<KvService>> EmbeddedService::Create(const EmbeddedOptions& options) {
  PASSBAND_ASSIGN_OR_RETURN(
      std::shared_ptr<Store> store,
      Store::Create({.arena = {.bytes = options.ram_bytes, .pre_touch = options.pre_touch},
                     .sequence_ttl = options.sequence_ttl,
                     .pin_limit_bytes = options.pin_limit_bytes}));
  return std::unique_ptr<KvService>(std::make_unique<Embedded>(std::move(store), options));
}

std::unique_ptr<KvService> EmbeddedService::ForTenant(const KvService& service,
                                                      const std::string& tenant) {
  return dynamic_cast<const Embedded&>(service).ForTenant(tenant);
}

}  // namespace passband
