#include "services/server/data_plane.h"

#include <algorithm>

namespace passband::server {
namespace {

// What most often keeps a data thread from starting, in words of the settings.
Status Explain(const Status& status, const std::string& ports) {
  if (ports.empty()) return Annotate(status, "starting a data thread");
  return Annotate(status, fmt::format("starting a data thread: are the TCP ports {} free? If not, "
                                      "choose another --data-port, or 0 for any",
                                      ports));
}

}  // namespace

StatusOr<std::unique_ptr<DataPlane>> DataPlane::Start(const Options& options, Store& store,
                                                      SessionTable& sessions,
                                                      const ProfileTable& profiles,
                                                      SliceCache& slices, Counters& counters) {
  std::unique_ptr<DataPlane> out(new DataPlane());
  out->limits_.max_reply_bytes = std::min(out->limits_.max_reply_bytes, options.staging_bytes);
  PASSBAND_ASSIGN_OR_RETURN(out->ucx_, transport::UcxContext::Create(options.ucx));
  const Arena& arena = store.arena();
  auto registered = transport::UcxMemory::Register(out->ucx_, {arena.data(), arena.bytes()});
  if (!registered.ok()) return Annotate(registered.status(), "registering --ram with UCX");
  out->arena_ = *std::move(registered);
  for (size_t i = 0; i < options.threads; ++i) {
    auto thread = DataThread::Start({.ucx = out->ucx_,
                                     .staging_bytes = options.staging_bytes,
                                     .huge_pages = options.huge_pages},
                                    {.thread = i,
                                     .store = store,
                                     .sessions = sessions,
                                     .profiles = profiles,
                                     .slices = slices,
                                     .counters = counters.thread(i),
                                     .arena = out->arena_.get(),
                                     .limits = out->limits_});
    if (!thread.ok()) return Explain(thread.status(), options.ucx.tcp_port_range);
    out->threads_.push_back(*std::move(thread));
  }
  return out;
}

void DataPlane::CloseSession(const Session& session) {
  threads_[session.data_thread()]->CloseSession(session.id());
}

bool DataPlane::Drain(Time deadline) {
  std::vector<std::future<void>> drained;
  for (const auto& thread : threads_) drained.push_back(thread->Drain());
  bool all = true;
  for (const auto& future : drained) {
    all = future.wait_until(deadline) == std::future_status::ready && all;
  }
  return all;
}

}  // namespace passband::server
