#include "services/server/grpc_data_plane.h"

#include <algorithm>

namespace passband::server {

StatusOr<std::unique_ptr<GrpcDataPlane>> GrpcDataPlane::Start(const Options& options, Store& store,
                                                              SessionTable& sessions,
                                                              const ProfileTable& profiles,
                                                              SliceCache& slices,
                                                              Counters& counters) {
  std::unique_ptr<GrpcDataPlane> out(new GrpcDataPlane());
  out->limits_.max_reply_bytes = std::min(out->limits_.max_reply_bytes, options.staging_bytes);
  for (size_t i = 0; i < options.threads; ++i) {
    auto thread =
        GrpcDataThread::Start({.staging_bytes = options.staging_bytes,
                               .huge_pages = options.huge_pages,
                               .transport = options.tls ? Transport::kGrpcTls : Transport::kGrpc},
                              {.thread = i,
                               .store = store,
                               .sessions = sessions,
                               .profiles = profiles,
                               .slices = slices,
                               .counters = counters.thread(options.first_counters + i),
                               .arena = nullptr,
                               .limits = out->limits_});
    if (!thread.ok()) return Annotate(thread.status(), "starting a data thread over gRPC");
    out->threads_.push_back(*std::move(thread));
  }
  out->service_ = std::make_unique<GrpcDataService>(sessions, out->threads_,
                                                    counters.thread(options.first_counters));
  return out;
}

void GrpcDataPlane::CloseSession(const Session& session) {
  threads_[session.data_thread()]->mailbox()->CloseSession(session.id());
}

bool GrpcDataPlane::Drain(Time deadline) {
  std::vector<std::future<void>> drained;
  for (const auto& thread : threads_) drained.push_back(thread->mailbox()->Drain());
  bool all = true;
  for (const auto& future : drained) {
    all = future.wait_until(deadline) == std::future_status::ready && all;
  }
  return all;
}

}  // namespace passband::server
