// BooksWorld: the reference checkpoint, held-out text, a store in this process,
// and a profile with random chunks, for tests that need a real model.
//
// Threads  one at a time.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>

#include "llama/model.h"
#include "profile/profile.h"
#include "sdk/embedded/embedded_service.h"
#include "sdk/engine.h"
#include "services/worker/flags.h"
#include "services/worker/model_info.h"

namespace passband::testing {

// Chunks that nothing speaks for: selection by them is poor, and that is all
// right wherever the budget holds everything.
inline std::shared_ptr<Profile> RandomProfile(const LlamaModel& model, uint64_t seed,
                                              uint32_t chunks = 16) {
  const ModelInfo info = ModelInfoOf(model);
  auto profile = std::make_shared<Profile>();
  profile->model_name = info.name;
  profile->fingerprint = info.fingerprint;
  profile->shape = info.head;
  profile->layers = info.layers;
  profile->query_heads = info.query_heads;
  profile->kv_heads = info.kv_heads;
  profile->encoding = kernels::SliceEncoding::kInt4;
  profile->provenance = {.selector = "greedy",
                         .pairing = "rope",
                         .text_digest = std::string(64, '0'),
                         .tool_version = "test",
                         .documents = 1,
                         .context_tokens = 1,
                         .positions = 1,
                         .top_k = 1,
                         .seed = seed};
  std::mt19937_64 random(seed);
  for (uint32_t i = 0; i < info.layers * info.kv_heads; ++i) {
    std::vector<uint16_t> all(static_cast<size_t>(info.head.chunks()));
    std::iota(all.begin(), all.end(), uint16_t{0});
    std::shuffle(all.begin(), all.end(), random);
    all.resize(chunks);
    std::sort(all.begin(), all.end());
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = info.head;
    spec->encoding = profile->encoding;
    spec->chunks = all;
    spec->mean.assign(2 * size_t{chunks}, 0.0F);
    spec->deviation.assign(2 * size_t{chunks}, 1.0F);
    profile->specs.push_back(spec);
  }
  const Status finished = profile->Finish();
  EXPECT_TRUE(finished.ok()) << finished;
  return profile;
}

class BooksWorld {
 public:
  BooksWorld() {
    auto loaded = LlamaModel::Load(PASSBAND_BOOKS_MODEL);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    model = *std::move(loaded);
    text = *ReadTextFile(std::string(PASSBAND_BOOKS_MODEL) + "/held-out.txt");
    service = NewService();
  }

  static std::unique_ptr<KvService> NewService() {
    auto created = EmbeddedService::Create(uint64_t{256} << 20);
    EXPECT_TRUE(created.ok()) << created.status();
    return *std::move(created);
  }

  std::unique_ptr<Engine> MakeEngine(uint32_t budget, std::shared_ptr<const Profile> profile) {
    EngineOptions options;
    options.select.budget = budget;
    options.scale = model->config().attention_scale();
    auto engine = Engine::Create(service.get(), ModelInfoOf(*model), std::move(profile), options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // `count` bytes of the text from `first`.
  std::vector<uint32_t> Tokens(size_t first, size_t count) const {
    std::vector<uint32_t> tokens;
    for (size_t i = 0; i < count; ++i) {
      tokens.push_back(static_cast<unsigned char>(text[first + i]));
    }
    return tokens;
  }

  std::unique_ptr<LlamaModel> model;
  std::unique_ptr<KvService> service;
  std::string text;
};

}  // namespace passband::testing
