#include "sdk/remote_service.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/units.h"
#include "sdk/append_sender.h"
#include "sdk/control_client.h"
#include "sdk/data_channel.h"
#include "sdk/data_connect.h"
#include "sdk/landing_pool.h"
#include "sdk/remote_rows.h"
#include "sdk/sequence_shapes.h"

namespace passband {
namespace {

constexpr uint64_t kAppendSlabs = 128 * kMiB;
constexpr auto kGoodbye = std::chrono::milliseconds(500);

// SelectionReports that no message has carried yet.
class Unreported {
 public:
  void Add(const SelectionReport& report) {
    MutexLock lock(mutex_);
    sum_.selected_rows += report.selected_rows;
    sum_.hot_rows += report.hot_rows;
    sum_.full_attention_bytes += report.full_attention_bytes;
  }
  SelectionReport Take() {
    MutexLock lock(mutex_);
    return std::exchange(sum_, {});
  }

 private:
  Mutex mutex_;
  SelectionReport sum_ ABSL_GUARDED_BY(mutex_);
};

StatusOr<GrpcTarget> TargetOf(const RemoteOptions& options) {
  if (options.data_plane != "auto" && options.data_plane != "ucx" && options.data_plane != "grpc") {
    return Error(StatusCode::kInvalidArgument, "data plane '{}': give one of auto, ucx, grpc",
                 options.data_plane);
  }
  PASSBAND_ASSIGN_OR_RETURN(TlsTexts texts, LoadTlsFiles(options.tls));
  return GrpcTarget{options.control_address, std::move(texts), options.tls_server_name};
}

AppendSender::Options SenderOptions(const RemoteOptions& options, bool ordered) {
  AppendLane::Options lane{.retry_budget = options.append_retry_budget};
  // One could overtake another, and leave a gap.
  if (!ordered) lane.window = 1;
  return {
      .max_bytes = options.append_bytes,
      .send_timeout = options.data_timeout,
      .room_timeout = options.data_timeout + options.append_retry_budget,
      .flush_timeout = options.flush_timeout,
      .lane = lane,
  };
}

}  // namespace

struct RemoteService::Impl {
  Impl(const RemoteOptions& given, const GrpcTarget& to)
      : options(given),
        control({to, given.tenant, given.client, given.connect_timeout, given.control_timeout}),
        shapes(control) {}

  const RemoteOptions options;
  std::shared_ptr<TrafficCounters> traffic = std::make_shared<TrafficCounters>();
  Unreported unreported;
  std::shared_ptr<DataChannel> channel;
  std::shared_ptr<LandingPool> append_pool;
  std::unique_ptr<AppendSender> appends;
  TransferOptions transfer;
  // After the channel: a heartbeat's callback looks at it.
  ControlClient control;
  SequenceShapes shapes;
  SessionInfo session;  // Written by Connect().

  Mutex profiles_mutex;
  std::map<std::string, uint64_t> profiles ABSL_GUARDED_BY(profiles_mutex);  // By digest.

  ~Impl();
  Status Connect(const GrpcTarget& target);
  void Heartbeat();
  StatusOr<uint64_t> ProfileId(const Profile& profile);
};

Status RemoteService::Impl::Connect(const GrpcTarget& target) {
  PASSBAND_ASSIGN_OR_RETURN(session, control.Connect());
  PASSBAND_ASSIGN_OR_RETURN(channel,
                            OpenDataChannel(options, target, session, [this] { Heartbeat(); }));
  transfer = {
      .channel = channel,
      .pool = LandingPool::Create(channel->ucx(), {options.landing_bytes, "landing_bytes"}),
      .traffic = traffic,
      .timeout = options.data_timeout,
      .checksum = options.verify_checksums,
  };
  // More than the bytes in flight: the pool keeps a slab for each size of append, and a
  // late one's memory until it is answered.
  append_pool = LandingPool::Create(channel->ucx(),
                                    {2 * options.append_bytes + kAppendSlabs, "append_bytes"});
  appends = std::make_unique<AppendSender>(*channel, append_pool,
                                           SenderOptions(options, channel->ordered()));
  log::Debug("connected", {{"server", options.control_address},
                           {"session", session.session},
                           {"transport", channel->transport()}});
  return OkStatus();
}

RemoteService::Impl::~Impl() {
  if (channel == nullptr) return;
  // Without a session the server closes what this client left open at once,
  // instead of at the end of its lease.
  if (channel->EndCalls()) {
    if (const Status left = control.Disconnect(kGoodbye); !left.ok()) {
      log::Debug("disconnect_failed", {{"error", left}});
    }
  }
  channel->Close();
}

void RemoteService::Impl::Heartbeat() {
  control.Heartbeat(unreported.Take(), [this](const Status& failure) {
    log::Debug("heartbeat_failed", {{"server", options.control_address}, {"error", failure}});
    if (failure.code() != StatusCode::kUnauthenticated) return;
    DataChannel::Lock lock(channel->driver());
    channel->Break(failure);
  });
}

StatusOr<uint64_t> RemoteService::Impl::ProfileId(const Profile& profile) {
  {
    MutexLock lock(profiles_mutex);
    if (const auto found = profiles.find(profile.digest()); found != profiles.end()) {
      return found->second;
    }
  }
  PASSBAND_ASSIGN_OR_RETURN(const uint64_t id, control.RegisterProfile(profile.ToJson()));
  MutexLock lock(profiles_mutex);
  profiles.emplace(profile.digest(), id);
  return id;
}

RemoteService::RemoteService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RemoteService::~RemoteService() = default;

StatusOr<std::unique_ptr<RemoteService>> RemoteService::Connect(const RemoteOptions& options) {
  PASSBAND_ASSIGN_OR_RETURN(const GrpcTarget target, TargetOf(options));
  auto impl = std::make_unique<Impl>(options, target);
  PASSBAND_RETURN_IF_ERROR(impl->Connect(target));
  return std::unique_ptr<RemoteService>(new RemoteService(std::move(impl)));
}

Status RemoteService::RegisterModel(const ModelInfo& model) {
  PASSBAND_RETURN_IF_ERROR(impl_->control.RegisterModel(model));
  impl_->shapes.AddModel(model);
  return OkStatus();
}

StatusOr<OpenedSequence> RemoteService::Open(const OpenParams& params) {
  PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened, impl_->control.Open(params));
  impl_->shapes.AddSequence(opened.id, params.model);
  return opened;
}

StatusOr<SequenceId> RemoteService::Fork(SequenceId sequence, uint64_t tokens) {
  PASSBAND_RETURN_IF_ERROR(impl_->appends->Flush(sequence));
  return impl_->control.Fork(sequence, tokens);
}

Status RemoteService::Extend(SequenceId sequence, uint64_t first,
                             std::span<const uint32_t> token_ids) {
  return impl_->control.Extend(sequence, first, token_ids);
}

Status RemoteService::Truncate(SequenceId sequence, uint64_t tokens) {
  // A failed append is what one truncates for; only its end is waited for.
  impl_->appends->Flush(sequence).IgnoreError();
  PASSBAND_RETURN_IF_ERROR(impl_->appends->AwaitAnswers(sequence));
  PASSBAND_RETURN_IF_ERROR(impl_->control.Truncate(sequence, tokens));
  impl_->appends->Forget(sequence);
  return OkStatus();
}

Status RemoteService::Seal(SequenceId sequence) {
  PASSBAND_RETURN_IF_ERROR(impl_->appends->Flush(sequence));
  return impl_->control.Seal(sequence);
}

Status RemoteService::Pin(SequenceId sequence, std::chrono::milliseconds time) {
  return impl_->control.Pin(sequence, time);
}

Status RemoteService::Unpin(SequenceId sequence) { return impl_->control.Unpin(sequence); }

Status RemoteService::Close(SequenceId sequence) {
  impl_->appends->Forget(sequence);
  impl_->shapes.Forget(sequence);
  return impl_->control.Close(sequence);
}

StatusOr<SequenceStat> RemoteService::Stat(SequenceId sequence) {
  return impl_->control.Stat(sequence);
}

StatusOr<std::vector<SequenceStat>> RemoteService::List(SequenceId after, uint32_t limit) {
  return impl_->control.List(after, limit);
}

StatusOr<uint64_t> RemoteService::Lookup(const std::string& model,
                                         std::span<const uint32_t> token_ids) {
  return impl_->control.Lookup(model, token_ids);
}

std::unique_ptr<PendingRows> RemoteService::StartFetch(const FetchRequest& request) {
  Report(request.report);
  return StartRemoteFetch(impl_->transfer, request, impl_->unreported.Take());
}

std::unique_ptr<PendingRows> RemoteService::StartRead(const RangeRequest& request) {
  const auto shape = impl_->shapes.Of(request.sequence);
  if (!shape.ok()) return FailedRows(shape.status());
  return StartRemoteRange(impl_->transfer,
                          {request, shape->kv_heads, shape->row_bytes, std::nullopt});
}

std::unique_ptr<PendingRows> RemoteService::StartSlices(
    const RangeRequest& request, const std::shared_ptr<const Profile>& profile) {
  const auto id = impl_->ProfileId(*profile);
  if (!id.ok()) return FailedRows(id.status());
  return StartRemoteRange(impl_->transfer, {request, profile->kv_heads,
                                            static_cast<uint32_t>(profile->slice_bytes()), *id});
}

Status RemoteService::Append(const AppendRequest& request) {
  PASSBAND_ASSIGN_OR_RETURN(const RowShape shape, impl_->shapes.Of(request.sequence));
  PASSBAND_RETURN_IF_ERROR(CheckAppend(request, shape));
  PASSBAND_RETURN_IF_ERROR(
      impl_->appends->Append(request, {static_cast<uint16_t>(shape.kv_heads), shape.row_bytes}));
  impl_->traffic->appended_bytes += request.rows.size();
  return OkStatus();
}

Status RemoteService::Flush(SequenceId sequence) { return impl_->appends->Flush(sequence); }

void RemoteService::Report(const SelectionReport& report) { impl_->unreported.Add(report); }

TrafficStats RemoteService::traffic() const { return impl_->traffic->Snapshot(); }
std::string RemoteService::transport() const { return impl_->channel->transport(); }
uint64_t RemoteService::landing_bytes_in_use() const { return impl_->transfer.pool->used_bytes(); }

Status RemoteService::lost() const {
  DataChannel::Lock lock(impl_->channel->driver());
  return impl_->channel->broken();
}

Status RemoteService::Ping() { return impl_->control.Ping(); }
uint64_t RemoteService::epoch() const { return impl_->session.epoch; }
const std::string& RemoteService::node() const { return impl_->session.node; }
const std::string& RemoteService::tenant() const { return impl_->session.tenant; }

uint64_t RemoteService::outstanding() const {
  DataChannel::Lock lock(impl_->channel->driver());
  return impl_->channel->outstanding();
}

}  // namespace passband
