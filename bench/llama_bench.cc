// The reference model's speed: prefill and decode of models/books-13m, with
// full attention in this process.
//
//   llama_bench --benchmark_filter=Prefill
//
// Run from the repository's root, or name the model's folder in
// PASSBAND_MODEL.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "llama/local_attention.h"
#include "llama/model.h"

namespace passband {
namespace {

std::unique_ptr<LlamaModel> LoadModel(benchmark::State& state) {
  const char* folder = std::getenv("PASSBAND_MODEL");
  auto model = LlamaModel::Load(folder != nullptr ? folder : "models/books-13m");
  if (!model.ok()) {
    state.SkipWithError(Message(model.status()).c_str());
    return nullptr;
  }
  return *std::move(model);
}

std::vector<uint32_t> Tokens(size_t count) {
  std::vector<uint32_t> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<uint32_t>('a' + i * 7 % 26);
  return out;
}

void Prefill(benchmark::State& state) {
  const auto model = LoadModel(state);
  if (model == nullptr) return;
  const std::vector<uint32_t> tokens = Tokens(static_cast<size_t>(state.range(0)));
  for ([[maybe_unused]] auto iteration : state) {
    LocalAttention attention(model->config(), model->pool());
    const BatchItem item{.token_ids = tokens};
    if (!model->Forward({&item, 1}, attention).ok()) state.SkipWithError("forward failed");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Prefill)->Arg(1024)->Arg(8192)->Unit(benchmark::kMillisecond)->UseRealTime();

// One step of a batch; each sequence has 1024 tokens.
void Decode(benchmark::State& state) {
  const auto model = LoadModel(state);
  if (model == nullptr) return;
  constexpr uint64_t kContext = 1024;
  const auto batch_size = static_cast<uint64_t>(state.range(0));
  LocalAttention attention(model->config(), model->pool());
  const std::vector<uint32_t> tokens = Tokens(kContext + 1);
  std::vector<BatchItem> step;
  for (uint64_t handle = 0; handle < batch_size; ++handle) {
    const BatchItem prompt{.token_ids = std::span(tokens).first(kContext), .handle = handle};
    if (!model->Forward({&prompt, 1}, attention).ok()) state.SkipWithError("forward failed");
    step.push_back(
        {.token_ids = std::span(tokens).last(1), .first_position = kContext, .handle = handle});
  }
  for ([[maybe_unused]] auto iteration : state) {
    if (!model->Forward(step, attention).ok()) state.SkipWithError("forward failed");
    for (uint64_t handle = 0; handle < batch_size; ++handle) attention.Truncate(handle, kContext);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Decode)->Arg(1)->Arg(8)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace passband

BENCHMARK_MAIN();
