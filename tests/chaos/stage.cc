#include "tests/chaos/stage.h"

#include "tests/chaos/tenants.h"
#include "tests/support/certificates.h"

namespace passband::chaos {

using test::Network;

Stage::Stage(const Options& options) : options_(options) {
  kinds_ = {FaultKind::kKillServer, FaultKind::kPauseServer, FaultKind::kPauseWorker,
            FaultKind::kKillWorker, FaultKind::kPressure};
  if (const Status own = test::OwnMounts(); own.ok()) {
    BuildNetwork();
    MountDisk();
  } else {
    for (const FaultKind kind :
         {FaultKind::kPartition, FaultKind::kBadCable, FaultKind::kFullDisk}) {
      Skip(kind, own);
    }
  }
  if (options_.tls) IssueCertificates();
}

void Stage::BuildNetwork() {
  auto network = Network::Create();
  if (!network.ok()) {
    Skip(FaultKind::kPartition, network.status());
    Skip(FaultKind::kBadCable, network.status());
    return;
  }
  network_ = *std::move(network);
  kinds_.push_back(FaultKind::kPartition);
  auto cable = test::BadCable::Create(*network_, options_.seed);
  if (!cable.ok()) return Skip(FaultKind::kBadCable, cable.status());
  bad_cable_ = *std::move(cable);
  kinds_.push_back(FaultKind::kBadCable);
}

void Stage::MountDisk() {
  auto disk = test::SmallDisk::Mount(folder_.path(), options_.disk_bytes);
  if (!disk.ok()) return Skip(FaultKind::kFullDisk, disk.status());
  disk_ = *std::move(disk);
  kinds_.push_back(FaultKind::kFullDisk);
}

void Stage::IssueCertificates() {
  const test::CertificateAuthority authority(certificates_.path(), kAuthority);
  authority.Issue("server", {.common_name = "server", .loopback = true});
  for (uint32_t i = 0; i < options_.tenants; ++i) {
    authority.Issue(TenantOf(i), {.uris = {"spiffe://chaos/tenant/" + TenantOf(i)}});
  }
}

void Stage::PlaceServer(test::ServerProcess::Options& server) const {
  const auto add = [&](const std::vector<std::string>& flags) {
    server.flags.insert(server.flags.end(), flags.begin(), flags.end());
  };
  const std::filesystem::path& folder = folder_.path();
  // The limit is less than the disk, which has to hold what RocksDB adds.
  add({"--spill-dir", disk_ == nullptr ? folder.string() : (folder / "spill").string(),
       "--spill-limit", std::to_string(options_.disk_bytes / 2), "--spill-full", "reject"});
  if (options_.tls) {
    const TlsFiles files = CertificatesOf(certificates_.path(), "server");
    add({"--tls-cert", files.certificate, "--tls-key", files.key, "--tls-client-ca", files.ca});
  }
  if (network_ == nullptr) return;
  server.launcher = network_->Launcher(Network::End::kServer);
  server.host = network_->server_host();
  add({"--net-devices", network_->Device(Network::End::kServer)});
}

std::vector<Workers::Options::Kind> Stage::PlaceWorkers() const {
  Workers::Options::Kind shm{{}, {"--transports", "auto", "--data-plane", "ucx"}};
  Workers::Options::Kind tcp{{}, {"--transports", "tcp,self", "--data-plane", "ucx"}};
  Workers::Options::Kind grpc{{}, {"--transports", "tcp,self", "--data-plane", "grpc"}};
  if (network_ != nullptr) {
    // Shared memory is for those on the server's host.
    PutAt(Network::End::kServer, shm);
    PutAt(Network::End::kWorker, tcp);
    PutAt(Network::End::kWorker, grpc);
  }
  std::vector<Workers::Options::Kind> out = {shm, tcp, grpc};
  if (!options_.tls) return out;
  for (Workers::Options::Kind& kind : out) {
    kind.flags.insert(kind.flags.end(), {"--certificates", certificates_.path().string()});
  }
  return out;
}

void Stage::PutAt(Network::End end, Workers::Options::Kind& kind) const {
  kind.launcher = network_->Launcher(end);
  kind.flags.insert(kind.flags.end(), {"--net-devices", network_->Device(end)});
}

}  // namespace passband::chaos
