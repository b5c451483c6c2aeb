// Checks attention on a GPU against the SDK's engine on the CPU: the same rows, the same
// queries, for every method, on fresh random inputs. Ends with 1 at the first difference,
// with 77 where there is no GPU.
//
//   sdk_device_check [--seed n] [--small]
//
// --small keeps shapes small, for compute-sanitizer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/fac.h"
#include "kernels/select.h"
#include "kernels/tip.h"
#include "sdk/device/device_engine.h"
#include "sdk/embedded/embedded_service.h"
#include "sdk/engine.h"

namespace passband {
namespace {

namespace gpu = kernels::cuda;

template <class T>
T Require(StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::printf("FAILED: %s\n", Message(value.status()).c_str());
  std::exit(1);
}
void Require(const Status& status) {
  if (status.ok()) return;
  std::printf("FAILED: %s\n", Message(status).c_str());
  std::exit(1);
}
void Expect(bool condition, const std::string& what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what.c_str());
  std::exit(1);
}

struct World {
  std::mt19937_64 random;
  ModelInfo model;
  std::shared_ptr<const Profile> profile;
  kernels::SelectOptions select;
  gpu::Stream stream;
  uint32_t prompt = 0;
  uint32_t steps = 0;
  uint32_t hot_rows = 0;

  float Normal() { return std::normal_distribution<float>()(random); }
  uint32_t Uniform(uint32_t low, uint32_t high) {
    return std::uniform_int_distribution<uint32_t>(low, high)(random);
  }
  std::vector<float> Queries(uint32_t count) {
    std::vector<float> out(size_t{count} * model.query_heads * model.head.head_dim);
    for (float& value : out) value = 2 * Normal();
    return out;
  }
  // [kv_head][count][K | V].
  std::vector<std::byte> Rows(uint32_t count) {
    std::vector<float> values(size_t{count} * model.kv_heads * 2 * model.head.head_dim);
    for (float& value : values) value = Normal();
    std::vector<std::byte> out(values.size() * 2);
    kernels::FloatToDType(values.data(), values.size(), kernels::DType::kBf16, out.data());
    return out;
  }
};

std::shared_ptr<const Profile> MakeProfile(World& w) {
  auto profile = std::make_shared<Profile>();
  profile->model_name = "random";
  profile->fingerprint = w.model.fingerprint;
  profile->shape = w.model.head;
  profile->layers = w.model.layers;
  profile->query_heads = w.model.query_heads;
  profile->kv_heads = w.model.kv_heads;
  profile->encoding =
      w.Uniform(0, 1) == 0 ? kernels::SliceEncoding::kInt2 : kernels::SliceEncoding::kInt4;
  profile->provenance = {"greedy", "rope", "", "", 1, 1, 1, 1, 0};
  const auto chunks = static_cast<uint16_t>(w.Uniform(8, 24));
  for (uint32_t i = 0; i < w.model.layers * w.model.kv_heads; ++i) {
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = w.model.head;
    spec->encoding = profile->encoding;
    for (uint16_t c = 0; c < chunks; ++c) spec->chunks.push_back(static_cast<uint16_t>(c + i % 3));
    spec->mean.assign(2 * chunks, 0.0F);
    spec->deviation.assign(2 * chunks, 1.0F);
    profile->specs.push_back(spec);
  }
  Require(profile->Finish());
  return profile;
}

World MakeWorld(uint64_t seed, bool small) {
  World w;
  w.random.seed(seed);
  w.model.fingerprint = {std::string(64, 'a'), std::string(64, 'b')};
  w.model.name = "random";
  w.model.layers = 2;
  w.model.kv_heads = w.Uniform(1, 3);
  w.model.query_heads = w.model.kv_heads * w.Uniform(1, 8);
  w.select = {w.Uniform(96, 200), 4, 64};
  w.hot_rows = w.Uniform(0, 1) == 0 ? 0 : w.select.budget + w.Uniform(1, 40);
  w.prompt = small ? w.Uniform(1, 300) : w.Uniform(1, 3000);
  w.steps = small ? 70 : 200;
  w.profile = MakeProfile(w);
  w.stream = Require(gpu::Stream::Create());
  return w;
}

struct Device {
  gpu::Memory queries, rows, out;
};

gpu::Memory ToDevice(const World& w, const void* data, size_t bytes) {
  gpu::Memory memory = Require(gpu::Memory::Allocate(bytes));
  Require(memory.CopyIn(data, bytes, w.stream.handle()));
  Require(w.stream.Synchronize());
  return memory;
}

std::vector<float> FromDevice(const World& w, const gpu::Memory& memory, size_t count) {
  std::vector<float> out(count);
  Require(memory.CopyOut(out.data(), count * 4, w.stream.handle()));
  Require(w.stream.Synchronize());
  return out;
}

double Difference(const std::vector<float>& a, const float* b) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / norm);
}

// Chooses what the GPU chose: a selection may differ between tokens of like scores, and
// this is about what is made of it. Says how many tokens the CPU would not have chosen.
class GivenSelector final : public TokenSelector {
 public:
  explicit GivenSelector(uint32_t kv_heads) : kv_heads_(kv_heads) {}
  std::vector<std::vector<uint32_t>> given;  // by problem, of the step's sequences in order

  Status Select(WorkerSequence&, uint32_t, uint32_t kv_head, uint64_t, const float*,
                std::vector<std::vector<uint32_t>>& sets) override {
    if (kv_head == 0) ++sequence_;
    sets = {given[(sequence_ - 1) * kv_heads_ + kv_head]};
    return OkStatus();
  }
  void Begin() { sequence_ = 0; }

 private:
  const uint32_t kv_heads_;
  size_t sequence_ = 0;
};

// Two sequences of different lengths: a prompt in pieces, then steps together.
class Comparison {
 public:
  Comparison(World& w, DeviceMethod method) : w_(w), method_(method), selector_(w.model.kv_heads) {
    service_ = Require(EmbeddedService::Create(uint64_t{1} << 30));
    device_service_ = Require(EmbeddedService::Create(uint64_t{1} << 30));
    EngineOptions options;
    options.select = w.select;
    cpu_ = Require(Engine::Create(service_.get(), w.model, w.profile, options));
    DeviceEngineOptions device_options;
    device_options.method = method;
    device_options.select = w.select;
    device_options.hot_rows = w.hot_rows;
    device_options.stream = w.stream.handle();
    gpu_ = Require(DeviceEngine::Create(device_service_.get(), w.model, w.profile, device_options));
    for (int i = 0; i < 2; ++i) {
      cpu_sequences_.push_back(Require(cpu_->Open({}, false)));
      gpu_sequences_.push_back(Require(gpu_->Open({}, w.prompt + 200 + w.steps + 1, false)));
    }
  }

  void Run() {
    for (size_t s = 0; s < 2; ++s) {
      const uint32_t prompt = w_.prompt + static_cast<uint32_t>(s) * 100;
      const uint32_t piece = w_.Uniform(1, prompt);
      Prompt(s, 0, piece);
      if (piece < prompt) Prompt(s, piece, prompt - piece);
    }
    for (uint32_t i = 0; i < w_.steps; ++i) {
      if (i == w_.steps / 2) Truncate();
      for (uint32_t layer = 0; layer < w_.model.layers; ++layer) Step(layer);
    }
    if (method_ == DeviceMethod::kFasaM) CompareStored();
  }

  double worst() const { return worst_; }
  uint64_t fetched() const { return gpu_->stats().fetched_rows; }

 private:
  void Prompt(size_t s, uint32_t first, uint32_t count) {
    for (uint32_t layer = 0; layer < w_.model.layers; ++layer) {
      const auto queries = w_.Queries(count);
      const auto rows = w_.Rows(count);
      Require(cpu_->AppendRows(*cpu_sequences_[s], layer, first, count, rows.data()));
      const gpu::Memory q = ToDevice(w_, queries.data(), queries.size() * 4);
      const gpu::Memory r = ToDevice(w_, rows.data(), rows.size());
      const gpu::Memory out = Require(gpu::Memory::Allocate(queries.size() * 4));
      Require(out.Fill(0xcd, w_.stream.handle()));
      Require(gpu_->Prompt(layer, {gpu_sequences_[s].get(), first, count, q.data<float>(), r.data(),
                                   out.data<float>()}));
      if (first > 0) continue;
      // The first piece needs no rows but its own.
      ComparePrompt(count, queries, rows, FromDevice(w_, out, queries.size()));
    }
  }

  // At one position.
  void ComparePrompt(uint32_t count, const std::vector<float>& queries,
                     const std::vector<std::byte>& rows, const std::vector<float>& got) {
    const uint32_t at = w_.Uniform(0, count - 1);
    const size_t width = size_t{w_.model.query_heads} * w_.model.head.head_dim;
    const auto begin = got.begin() + static_cast<ptrdiff_t>(at * width);
    const std::vector<float> mine(begin, begin + static_cast<ptrdiff_t>(width));
    std::vector<float> reference(width);
    const uint32_t group = w_.model.group();
    for (uint32_t head = 0; head < w_.model.kv_heads; ++head) {
      const size_t offset = size_t{head} * group * w_.model.head.head_dim;
      kernels::FacParams params;
      params.shape = w_.model.head;
      params.group = static_cast<int>(group);
      params.scale = cpu_->options().scale;
      params.queries = queries.data() + at * width + offset;
      params.out = reference.data() + offset;
      kernels::FacContiguous(params, rows.data() + size_t{head} * count * w_.model.head.row_bytes(),
                             at + 1);
    }
    const double difference = Difference(mine, reference.data());
    Expect(difference < 1e-4, fmt::format("prompt attention differs by {}", difference));
  }

  void Step(uint32_t layer) {
    const auto queries = w_.Queries(2);
    const size_t width = queries.size() / 2;
    std::vector<std::byte> rows;
    for (int i = 0; i < 2; ++i) {
      const auto one = w_.Rows(1);
      rows.insert(rows.end(), one.begin(), one.end());
    }
    std::vector<float> expected(queries.size());
    std::vector<StepItem> items;
    for (size_t s = 0; s < 2; ++s) {
      items.push_back({cpu_sequences_[s].get(), queries.data() + s * width,
                       rows.data() + s * rows.size() / 2, expected.data() + s * width});
    }
    const gpu::Memory q = ToDevice(w_, queries.data(), queries.size() * 4);
    const gpu::Memory r = ToDevice(w_, rows.data(), rows.size());
    const gpu::Memory out = Require(gpu::Memory::Allocate(queries.size() * 4));
    Require(out.Fill(0xcd, w_.stream.handle()));
    DeviceSequence* const both[] = {gpu_sequences_[0].get(), gpu_sequences_[1].get()};
    Require(gpu_->Step(
        layer, {both, q.data<float>(), r.data(), w_.model.head.row_bytes(), out.data<float>()}));
    StepOnCpu(layer, items);
    const double difference = Difference(FromDevice(w_, out, queries.size()), expected.data());
    worst_ = std::max(worst_, difference);
    Expect(difference < 1e-4, fmt::format("a step differs by {}", difference));
  }

  void StepOnCpu(uint32_t layer, std::span<const StepItem> items) {
    if (method_ == DeviceMethod::kFull) return Require(cpu_->StepFull(layer, items));
    selector_.given.clear();
    for (uint32_t problem = 0; problem < 2 * w_.model.kv_heads; ++problem) {
      selector_.given.push_back(Require(gpu_->LastSelection(problem)));
    }
    selector_.Begin();
    Require(cpu_->Step(layer, items, selector_));
    CompareSelection(layer, items);
  }

  // Against the CPU's own choice from its slices, of the first sequence.
  void CompareSelection(uint32_t layer, std::span<const StepItem> items) {
    const uint32_t group = w_.model.group();
    for (uint32_t head = 0; head < w_.model.kv_heads; ++head) {
      const kernels::SliceIndex& index = *cpu_sequences_[0]->slices(layer, head);
      std::vector<float> scores(index.tokens());
      kernels::TipScratch tip;
      kernels::TipScores(index, items[0].queries + size_t{head} * group * w_.model.head.head_dim,
                         static_cast<int>(group), cpu_->options().scale, tip, scores.data());
      kernels::SelectScratch scratch;
      std::vector<uint32_t> chosen;
      kernels::SelectTokens(scores, w_.select, scratch, chosen);
      const auto& given = selector_.given[head];
      std::vector<uint32_t> only;
      std::set_difference(chosen.begin(), chosen.end(), given.begin(), given.end(),
                          std::back_inserter(only));
      Expect(given.size() == chosen.size() && only.size() <= 2,
             fmt::format("{} of {} tokens are not chosen on the GPU", only.size(), chosen.size()));
    }
  }

  void Truncate() {
    for (size_t s = 0; s < 2; ++s) {
      const uint64_t tokens = cpu_sequences_[s]->length(0) - w_.Uniform(0, w_.steps / 4);
      Require(cpu_sequences_[s]->Truncate(tokens));
      Require(gpu_sequences_[s]->Truncate(tokens));
    }
  }

  // Every row that the GPU sent is what the CPU's engine sent.
  void CompareStored() {
    for (size_t s = 0; s < 2; ++s) {
      Require(cpu_->Flush(*cpu_sequences_[s]));
      Require(gpu_sequences_[s]->Flush());
      for (uint32_t layer = 0; layer < w_.model.layers; ++layer) {
        const uint64_t count = cpu_sequences_[s]->length(layer);
        const auto a = service_->StartRead({cpu_sequences_[s]->id(), layer, 0, count});
        const auto b = device_service_->StartRead({gpu_sequences_[s]->id(), layer, 0, count});
        const auto expected = Require(a->Wait());
        const auto stored = Require(b->Wait());
        Expect(expected.size() == stored.size() &&
                   std::memcmp(expected.data(), stored.data(), stored.size()) == 0,
               "the service holds other rows than the CPU's engine sent");
      }
    }
  }

  World& w_;
  const DeviceMethod method_;
  GivenSelector selector_;
  std::unique_ptr<KvService> service_, device_service_;
  std::unique_ptr<Engine> cpu_;
  std::unique_ptr<DeviceEngine> gpu_;
  std::vector<std::unique_ptr<WorkerSequence>> cpu_sequences_;
  std::vector<std::unique_ptr<DeviceSequence>> gpu_sequences_;
  double worst_ = 0;
};

void Run(uint64_t seed, bool small) {
  const char* const names[] = {"full", "fasa-c", "fasa-m"};
  for (const DeviceMethod method :
       {DeviceMethod::kFull, DeviceMethod::kFasaC, DeviceMethod::kFasaM}) {
    World w = MakeWorld(seed, small);
    Comparison comparison(w, method);
    comparison.Run();
    std::printf(
        "%s: prompt %u, %u steps, kv heads %u, group %u, budget %u: worst step %.1e, %llu "
        "rows fetched\n",
        names[static_cast<int>(method)], w.prompt, w.steps, w.model.kv_heads, w.model.group(),
        w.select.budget, comparison.worst(), static_cast<unsigned long long>(comparison.fetched()));
  }
}

}  // namespace
}  // namespace passband

int main(int argc, char** argv) {
  uint64_t seed = std::random_device()();
  bool small = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--small") small = true;
    if (std::string(argv[i]) == "--seed" && i + 1 < argc)
      seed = std::strtoull(argv[++i], nullptr, 10);
  }
  if (const auto device = passband::kernels::cuda::CurrentDevice(); !device.ok()) {
    std::printf("SKIPPED: %s\n", passband::Message(device.status()).c_str());
    return 77;
  }
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  const int rounds = small ? 2 : 6;
  for (int round = 0; round < rounds; ++round)
    passband::Run(seed + static_cast<uint64_t>(round), small);
  std::printf("attention on the GPU agrees with the CPU's\n");
  return 0;
}
