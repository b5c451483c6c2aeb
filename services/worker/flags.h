// Flags: what every subcommand of the worker asks for, and what becomes of it.
//
// Threads    used before any are started.
// Ownership  a Workbench owns model and service.
// Errors     those of the checkpoint, the profile and the service.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/tls_files.h"
#include "llama/model.h"
#include "profile/profile.h"
#include "sdk/kv_service.h"

namespace passband {

struct ModelFlags {
  std::string folder;
  int threads = 0;
  std::string device = "cpu";
  std::string random_weights;  // a shape, instead of a folder
  uint64_t random_seed = 1;

  void AddTo(CLI::App& app);
  // --device; for commands that also run on a GPU.
  void AddDeviceTo(CLI::App& app);
  bool on_gpu() const { return device == "cuda"; }
  // `folder`/profiles/greedy-24-int2.json where that exists, otherwise empty.
  std::string DefaultProfile() const;
};

struct ServiceFlags {
  std::string server;             // host:port; empty: embedded
  std::string embedded = "1GiB";  // RAM of a store in this process
  std::string tenant;             // empty: the certificate's, or "default"
  std::string data_plane = "auto";
  TlsFiles tls;
  std::string tls_server_name;

  void AddTo(CLI::App& app);
};

struct SelectFlags {
  uint32_t sinks = 4;
  uint32_t recent = 64;
  uint32_t hot_rows = 0;

  void AddTo(CLI::App& app);
};

// Model and service, ready for an engine.
struct Workbench {
  std::unique_ptr<LlamaModel> model;
  std::unique_ptr<KvService> service;
};

StatusOr<std::unique_ptr<LlamaModel>> LoadModel(const ModelFlags& flags);
StatusOr<std::unique_ptr<KvService>> OpenService(const ServiceFlags& flags);
StatusOr<Workbench> OpenWorkbench(const ModelFlags& model, const ServiceFlags& service);

// Reads a profile and refuses one of another checkpoint.
StatusOr<std::shared_ptr<const Profile>> LoadProfileFor(const std::string& path,
                                                        const LlamaModel& model);

// The whole file. kNotFound names it.
StatusOr<std::string> ReadTextFile(const std::string& path);

// "a,b,c" -> {"a", "b", "c"}; empty parts are dropped.
std::vector<std::string> SplitList(const std::string& list);

}  // namespace passband
