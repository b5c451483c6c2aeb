#include "services/worker/flags.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/units.h"
#include "sdk/embedded/embedded_service.h"
#include "sdk/remote_service.h"
#include "services/worker/model_info.h"

namespace passband {

void ModelFlags::AddTo(CLI::App& app) {
  app.add_option("--model", folder, "Folder of a Llama-architecture safetensors checkpoint")
      ->type_name("FOLDER")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--threads", threads, "Threads that the model computes with; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void ModelFlags::AddDeviceTo(CLI::App& app) {
  app.add_option("--device", device, "Where the model computes: cpu, or cuda: an NVIDIA GPU")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
}

std::string ModelFlags::DefaultProfile() const {
  if (folder.empty()) return "";
  const auto path = std::filesystem::path(folder) / "profiles" / "greedy-24-int2.json";
  return std::filesystem::exists(path) ? path.string() : "";
}

void ServiceFlags::AddTo(CLI::App& app) {
  CLI::Option* remote =
      app.add_option("--server", server, "Keep keys and values in this passband-server")
          ->type_name("HOST:PORT");
  app.add_option("--embedded", embedded, "Without --server: RAM of a store in this process")
      ->type_name("SIZE")
      ->excludes(remote)
      ->check([](const std::string& text) {
        const auto bytes = ParseBytes(text);
        return bytes.ok() ? std::string() : Message(bytes.status());
      })
      ->capture_default_str();
  app.add_option("--tenant", tenant,
                 "Whose sequences these are. Default: whom the certificate names, or default")
      ->type_name("NAME");
  app.add_option(
         "--data-plane", data_plane,
         "How rows travel: ucx, grpc, or auto: ucx, unless the server has none or TLS is on")
      ->check(CLI::IsMember({"auto", "ucx", "grpc"}))
      ->capture_default_str();
  app.add_option("--tls-ca", tls.ca, "Encrypt; the server's certificate is signed by this (PEM)")
      ->type_name("FILE");
  app.add_option("--tls-cert", tls.certificate, "Client certificate (PEM); it names the tenant")
      ->type_name("FILE");
  app.add_option("--tls-key", tls.key, "Its private key (PEM)")->type_name("FILE");
  app.add_option("--tls-server-name", tls_server_name,
                 "What the server's certificate calls it, if not the host in --server")
      ->type_name("NAME");
}

void SelectFlags::AddTo(CLI::App& app) {
  app.add_option("--sinks", sinks, "First tokens that are always attended to")
      ->capture_default_str();
  app.add_option("--recent", recent, "Newest tokens that are always attended to")
      ->capture_default_str();
  app.add_option("--hot-rows", hot_rows,
                 "Rows that each head keeps from earlier steps; 0: 4 x budget")
      ->capture_default_str();
}

StatusOr<std::unique_ptr<LlamaModel>> LoadModel(const ModelFlags& flags) {
  const LlamaModel::Options options{.threads = flags.threads,
                                    .device = flags.on_gpu() ? Device::kCuda : Device::kCpu};
  if (!flags.random_weights.empty()) {
    return LlamaModel::Random(flags.random_weights, flags.random_seed, options);
  }
  return LlamaModel::Load(flags.folder, options);
}

StatusOr<std::unique_ptr<KvService>> OpenService(const ServiceFlags& flags) {
  if (flags.server.empty()) {
    PASSBAND_ASSIGN_OR_RETURN(const uint64_t ram, ParseBytes(flags.embedded));
    return EmbeddedService::Create(ram, flags.tenant.empty() ? "default" : flags.tenant);
  }
  RemoteOptions options;
  options.control_address = flags.server;
  options.tenant = flags.tenant;
  options.client = "passband-worker";
  options.data_plane = flags.data_plane;
  options.tls = flags.tls;
  options.tls_server_name = flags.tls_server_name;
  return RemoteService::Connect(options);
}

StatusOr<Workbench> OpenWorkbench(const ModelFlags& model, const ServiceFlags& service) {
  Workbench bench;
  PASSBAND_ASSIGN_OR_RETURN(bench.model, LoadModel(model));
  PASSBAND_ASSIGN_OR_RETURN(bench.service, OpenService(service));
  PASSBAND_RETURN_IF_ERROR(bench.service->RegisterModel(ModelInfoOf(*bench.model)));
  return bench;
}

StatusOr<std::shared_ptr<const Profile>> LoadProfileFor(const std::string& path,
                                                        const LlamaModel& model) {
  auto profile = Profile::Load(path);
  if (!profile.ok()) return profile.status();
  if (const Status fits = (*profile)->CheckModel(model.fingerprint()); !fits.ok()) {
    return Annotate(fits, path);
  }
  return profile;
}

StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error(StatusCode::kNotFound, "{}: cannot be read", path);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

std::vector<std::string> SplitList(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

}  // namespace passband
