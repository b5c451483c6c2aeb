// Decode steps of the GPU worker at the size of a real model, with weights, prompts and
// rows made up at random: full attention, FASA-C and FASA-M, one after the other, in one
// process and on one GPU. Prints a JSON line for each.
//
//   worker_bench [--server HOST:PORT] [--tokens n] [--batch n] [--steps n] [--hold n]
//                [--methods full,fasa-c,fasa-m] [--hot-rows n]
//
// Contexts are not computed but filled with normal rows, so that a run takes seconds.
// Random keys have no locality of their own: each sequence is fed the same token `hold`
// steps in a row, and the share of hot rows that comes of it is measured and printed.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "base/units.h"
#include "kernels/cuda/layer_math.h"
#include "llama/device_forward.h"
#include "sdk/device/device_engine.h"
#include "sdk/embedded/embedded_service.h"
#include "sdk/remote_service.h"
#include "services/worker/device_host.h"
#include "services/worker/model_info.h"

namespace passband {
namespace {

namespace gpu = kernels::cuda;
using Clock = std::chrono::steady_clock;

template <class T>
T Require(StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "failed: %s\n", Message(value.status()).c_str());
  std::exit(1);
}
void Require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "failed: %s\n", Message(status).c_str());
  std::exit(1);
}

struct Flags {
  std::map<std::string, std::string> values = {
      {"--server", ""},    {"--tokens", "65536"}, {"--batch", "8"},
      {"--steps", "48"},   {"--hold", "16"},      {"--methods", "full,fasa-c,fasa-m"},
      {"--hot-rows", "0"}, {"--ram", "80GiB"}};
  uint32_t Number(const std::string& name) const {
    return static_cast<uint32_t>(std::strtoul(values.at(name).c_str(), nullptr, 10));
  }
};

// The attention of a batch whose items lie next to each other.
class Batch final : public AttentionBackend {
 public:
  Batch(DeviceEngine& engine, std::vector<std::unique_ptr<DeviceSequence>>& sequences)
      : engine_(engine) {
    for (const auto& sequence : sequences) batch_.push_back(sequence.get());
  }
  Status Attend(const AttendArgs& args) override {
    return engine_.Step(args.layer, {batch_, args.items[0].queries, args.items[0].rows,
                                     engine_.model().head.row_bytes(), args.items[0].out});
  }

 private:
  DeviceEngine& engine_;
  std::vector<DeviceSequence*> batch_;
};

DeviceMethod MethodOf(const std::string& name) {
  if (name == "full") return DeviceMethod::kFull;
  return name == "fasa-c" ? DeviceMethod::kFasaC : DeviceMethod::kFasaM;
}

// Fills every layer of a sequence with normal rows.
void Fill(DeviceEngine& engine, DeviceSequence& sequence, uint32_t tokens, uint64_t seed,
          const gpu::Memory& rows, gpu::StreamHandle stream) {
  const ModelInfo& model = engine.model();
  constexpr uint32_t kPiece = 8192;
  for (uint32_t layer = 0; layer < model.layers; ++layer) {
    for (uint64_t done = sequence.attached_tokens(); done < tokens; done += kPiece) {
      const auto first = static_cast<uint32_t>(done);
      const uint32_t count = std::min(kPiece, tokens - first);
      const size_t elements = size_t{count} * model.kv_heads * 2 * model.head.head_dim;
      Require(gpu::FillNormal({rows.data(), kernels::DType::kBf16}, elements,
                              (seed << 32) + layer * 4096 + first / kPiece, 1.28F, stream));
      Require(engine.AppendRows(layer, {&sequence, first, count, nullptr, rows.data(), nullptr}));
    }
  }
  Require(gpu::Synchronize(stream));
}

class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {
    LlamaModel::Options options;
    options.device = Device::kCuda;
    model_ = Require(LlamaModel::Random("llama-3.1-8b", 1, options));
    profile_ = Require(RandomProfile(*model_));
    if (!flags.values.at("--server").empty()) {
      RemoteOptions remote;
      remote.control_address = flags.values.at("--server");
      remote.append_bytes = uint64_t{256} << 20;
      remote.append_retry_budget = std::chrono::seconds(60);
      service_ = Require(RemoteService::Connect(remote));
    } else {
      service_ = Require(EmbeddedService::Create(Require(ParseBytes(flags.values.at("--ram")))));
    }
  }

  void Run(const std::string& method) {
    const uint32_t tokens = flags_.Number("--tokens");
    const uint32_t batch = flags_.Number("--batch");
    const uint32_t steps = flags_.Number("--steps");
    DeviceEngineOptions options;
    options.method = MethodOf(method);
    options.hot_rows = flags_.Number("--hot-rows");
    options.stream = model_->device()->stream();
    auto engine =
        Require(DeviceEngine::Create(service_.get(), ModelInfoOf(*model_), profile_, options));
    std::vector<std::unique_ptr<DeviceSequence>> sequences;
    const gpu::Memory rows =
        Require(gpu::Memory::Allocate(size_t{8192} * model_->config().layer_row_bytes()));
    const auto begun = Clock::now();
    // In the service the sequences share their rows; each has slices of its own.
    std::vector<uint32_t> ids(tokens);
    for (uint32_t i = 0; i < tokens; ++i) ids[i] = i % 1000;
    for (uint32_t s = 0; s < batch; ++s) {
      sequences.push_back(Require(engine->Open(ids, tokens + 2 * steps + 64)));
      Fill(*engine, *sequences.back(), tokens, s + 1, rows, options.stream);
      if (options.method == DeviceMethod::kFasaM) Require(sequences.back()->WaitStored());
    }
    const double fill_seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    Batch backend(*engine, sequences);
    // As many steps again first, in which hot rows gather.
    Decode(backend, tokens, steps);
    engine->ResetStats();
    const std::vector<double> times = Decode(backend, tokens + steps, steps);
    Print(method, times, fill_seconds, engine->stats(), sequences);
  }

 private:
  std::vector<double> Decode(Batch& backend, uint32_t position, uint32_t steps) {
    const uint32_t batch = flags_.Number("--batch");
    const uint32_t hold = std::max(flags_.Number("--hold"), 1U);
    std::vector<double> times;
    for (uint32_t i = 0; i < steps; ++i) {
      std::vector<uint32_t> tokens(batch);
      std::vector<BatchItem> items;
      for (uint32_t s = 0; s < batch; ++s) {
        tokens[s] = (position + i) / hold * 7919 % 100000 + s * 1000;
        items.push_back({std::span(&tokens[s], 1), position + i, s, 1});
      }
      const auto begun = Clock::now();
      Require(model_->device()->ForwardGreedy(items, backend));
      times.push_back(std::chrono::duration<double>(Clock::now() - begun).count());
    }
    std::sort(times.begin(), times.end());
    return times;
  }

  void Print(const std::string& method, const std::vector<double>& times, double fill_seconds,
             const EngineStats& stats,
             const std::vector<std::unique_ptr<DeviceSequence>>& sequences) {
    uint64_t kv_bytes = 0;
    for (const auto& sequence : sequences) kv_bytes += sequence->device_bytes();
    const double median = times[times.size() / 2];
    double mean = 0;
    for (const double time : times) mean += time / static_cast<double>(times.size());
    const double hot = stats.selected_rows == 0 ? 0
                                                : static_cast<double>(stats.hot_rows) /
                                                      static_cast<double>(stats.selected_rows);
    const auto batch = static_cast<double>(sequences.size());
    std::printf(
        "{\"bench\": \"gpu_worker\", \"method\": \"%s\", \"tokens\": %u, \"batch\": %zu, "
        "\"steps\": %zu, \"step_ms_median\": %.3f, \"step_ms_mean\": %.3f, "
        "\"tokens_per_second\": %.1f, \"kv_device_bytes\": %llu, \"hot_share\": %.4f, "
        "\"fetched_rows\": %llu, \"fill_seconds\": %.1f, \"rows_over\": \"%s\"}\n",
        method.c_str(), flags_.Number("--tokens"), sequences.size(), times.size(), median * 1e3,
        mean * 1e3, batch / mean, static_cast<unsigned long long>(kv_bytes), hot,
        static_cast<unsigned long long>(stats.fetched_rows), fill_seconds,
        method == "fasa-m" ? service_->transport().c_str() : "device memory");
    std::fflush(stdout);
  }

  const Flags& flags_;
  std::unique_ptr<LlamaModel> model_;
  std::shared_ptr<const Profile> profile_;
  std::unique_ptr<KvService> service_;
};

}  // namespace
}  // namespace passband

int main(int argc, char** argv) {
  passband::Flags flags;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!flags.values.contains(argv[i])) {
      std::fprintf(stderr, "unknown flag %s\n", argv[i]);
      return 2;
    }
    flags.values[argv[i]] = argv[i + 1];
  }
  passband::Bench bench(flags);
  std::string methods = flags.values["--methods"];
  for (size_t at = 0; at < methods.size();) {
    const size_t end = std::min(methods.find(',', at), methods.size());
    bench.Run(methods.substr(at, end - at));
    at = end + 1;
  }
  return 0;
}
