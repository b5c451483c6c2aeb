#include "services/server/data_planes.h"

#include <string>

namespace passband::server {
namespace {

DataPlane::Options UcxOptions(const Settings& settings) {
  DataPlane::Options out{.threads = settings.data_threads,
                         .staging_bytes = settings.staging_bytes,
                         .huge_pages = settings.huge_pages};
  out.ucx.tls = settings.transports;
  out.ucx.net_devices = settings.net_devices;
  if (settings.data_port != 0) {
    out.ucx.tcp_port_range =
        fmt::format("{}-{}", settings.data_port, settings.data_port + settings.data_threads - 1);
  }
  return out;
}

GrpcDataPlane::Options GrpcOptions(const Settings& settings) {
  return {.threads = settings.data_threads,
          .staging_bytes = settings.staging_bytes,
          .huge_pages = settings.huge_pages,
          .tls = !settings.tls.empty(),
          .first_counters = settings.data_ucx ? settings.data_threads : 0};
}

}  // namespace

size_t DataPlanes::Threads(const Settings& settings) {
  return settings.data_threads * ((settings.data_ucx ? 1U : 0U) + (settings.data_grpc ? 1U : 0U));
}

StatusOr<std::unique_ptr<DataPlanes>> DataPlanes::Start(const Settings& settings, Store& store,
                                                        SessionTable& sessions,
                                                        const ProfileTable& profiles,
                                                        SliceCache& slices, Counters& counters) {
  std::unique_ptr<DataPlanes> out(new DataPlanes());
  if (settings.data_ucx) {
    PASSBAND_ASSIGN_OR_RETURN(out->ucx_, DataPlane::Start(UcxOptions(settings), store, sessions,
                                                          profiles, slices, counters));
  }
  if (settings.data_grpc) {
    PASSBAND_ASSIGN_OR_RETURN(
        out->grpc_,
        GrpcDataPlane::Start(GrpcOptions(settings), store, sessions, profiles, slices, counters));
  }
  return out;
}

const DataLimits& DataPlanes::limits() const {
  return ucx_ != nullptr ? ucx_->limits() : grpc_->limits();
}

std::string DataPlanes::names() const {
  std::string out = ucx_ != nullptr ? ucx_->transports() : "";
  if (grpc_ != nullptr) out += out.empty() ? "grpc" : ",grpc";
  return out;
}

void DataPlanes::CloseSession(const Session& session) {
  if (ucx_ != nullptr) ucx_->CloseSession(session);
  if (grpc_ != nullptr) grpc_->CloseSession(session);
}

bool DataPlanes::Drain(Time deadline) {
  const bool ucx = ucx_ == nullptr || ucx_->Drain(deadline);
  const bool grpc = grpc_ == nullptr || grpc_->Drain(deadline);
  return ucx && grpc;
}

}  // namespace passband::server
