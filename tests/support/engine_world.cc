#include "tests/support/engine_world.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "kernels/dtype.h"

namespace passband::testing {
namespace {

ModelInfo RandomModel(Random& random) {
  ModelInfo model;
  model.fingerprint = {.architecture = "test", .weights = std::to_string(random())};
  model.name = "test";
  model.layers = 1 + Below(random, 2);
  model.kv_heads = 1 + Below(random, 3);
  model.query_heads = model.kv_heads * (1 + Below(random, 8));
  constexpr uint16_t kHeadDims[] = {16, 32, 64, 80, 128, 256};
  model.head.head_dim = kHeadDims[Below(random, 6)];
  model.head.rotary_dim =
      static_cast<uint16_t>(Below(random, 3) == 0 ? model.head.head_dim / 2 : model.head.head_dim);
  model.head.layout = static_cast<kernels::RopeLayout>(Below(random, 2));
  model.head.dtype = static_cast<kernels::DType>(Below(random, 3));
  return model;
}

std::shared_ptr<const Profile> RandomProfile(const ModelInfo& model, Random& random) {
  auto profile = std::make_shared<Profile>();
  profile->model_name = model.name;
  profile->fingerprint = model.fingerprint;
  profile->shape = model.head;
  profile->layers = model.layers;
  profile->query_heads = model.query_heads;
  profile->kv_heads = model.kv_heads;
  profile->encoding = static_cast<kernels::SliceEncoding>(Below(random, 5));
  profile->provenance.selector = "greedy";
  profile->provenance.pairing = "rope";
  const auto all = static_cast<uint32_t>(model.head.chunks());
  const uint32_t chunks = 1 + Below(random, std::min(all, 24U));
  for (uint32_t i = 0; i < model.layers * model.kv_heads; ++i) {
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = model.head;
    spec->encoding = profile->encoding;
    std::vector<uint16_t> order(all);
    std::iota(order.begin(), order.end(), uint16_t{0});
    std::shuffle(order.begin(), order.end(), random);
    order.resize(chunks);
    spec->chunks = order;
    spec->mean.resize(2 * chunks);
    spec->deviation.resize(2 * chunks);
    for (float& mean : spec->mean) mean = static_cast<float>(Below(random, 100)) / 200 - 0.25F;
    for (float& d : spec->deviation) d = 0.5F + static_cast<float>(Below(random, 100)) / 100;
    profile->specs.push_back(std::move(spec));
  }
  const Status finished = profile->Finish();
  EXPECT_TRUE(finished.ok()) << finished;
  return profile;
}

// Normal numbers from a hash of the arguments.
std::vector<float> Normals(std::initializer_list<uint64_t> key, size_t count) {
  uint64_t seed = 0x9E3779B97F4A7C15U;
  for (const uint64_t part : key) seed = (seed ^ part) * 0xBF58476D1CE4E5B9U + (seed >> 29);
  std::minstd_rand random(static_cast<uint32_t>(seed >> 32 ^ seed));
  random.discard(3);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& value : out) value = normal(random);
  return out;
}

}  // namespace

EngineWorld::EngineWorld(uint64_t seed) {
  Random random(seed);
  model = RandomModel(random);
  profile = RandomProfile(model, random);
}

std::vector<std::byte> EngineWorld::Row(uint32_t layer, uint32_t kv_head, uint64_t position,
                                        uint32_t token_id) const {
  const size_t values = 2 * size_t{model.head.head_dim};
  const std::vector<float> floats = Normals({1, layer, kv_head, position, token_id}, values);
  std::vector<std::byte> row(model.head.row_bytes());
  kernels::FloatToDType(floats.data(), values, model.head.dtype, row.data());
  return row;
}

std::vector<std::byte> EngineWorld::RangeRows(uint32_t layer, const std::vector<uint32_t>& ids,
                                              uint64_t first, uint64_t count) const {
  std::vector<std::byte> rows;
  for (uint32_t head = 0; head < model.kv_heads; ++head) {
    for (uint64_t i = first; i < first + count; ++i) {
      const std::vector<std::byte> row = Row(layer, head, i, ids[i]);
      rows.insert(rows.end(), row.begin(), row.end());
    }
  }
  return rows;
}

std::vector<std::byte> EngineWorld::TokenRows(uint32_t layer, uint64_t position,
                                              uint32_t token_id) const {
  std::vector<std::byte> rows;
  for (uint32_t head = 0; head < model.kv_heads; ++head) {
    const std::vector<std::byte> row = Row(layer, head, position, token_id);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

std::vector<float> EngineWorld::Queries(uint32_t layer, uint64_t position,
                                        uint32_t token_id) const {
  return Normals({2, layer, position, token_id}, out_size());
}

std::vector<float> EngineWorld::PlainStep(uint32_t layer, const std::vector<uint32_t>& ids,
                                          const EngineOptions& options) const {
  const uint64_t last = ids.size() - 1;
  const std::vector<float> queries = Queries(layer, last, ids[last]);
  const std::vector<std::byte> rows = RangeRows(layer, ids, 0, ids.size());
  const size_t row_bytes = model.head.row_bytes();
  const auto group = static_cast<int>(model.group());
  std::vector<float> out(out_size());
  for (uint32_t head = 0; head < model.kv_heads; ++head) {
    const std::byte* head_rows = rows.data() + head * ids.size() * row_bytes;
    const size_t offset = size_t{head} * model.group() * model.head.head_dim;
    kernels::SliceIndex slices(profile->spec(layer, head));
    slices.AppendKeys(head_rows, row_bytes, ids.size());
    kernels::TipScratch tip_scratch;
    std::vector<float> scores(ids.size());
    kernels::TipScores(slices, queries.data() + offset, group, options.scale, tip_scratch,
                       scores.data());
    kernels::SelectScratch select_scratch;
    std::vector<uint32_t> selected;
    kernels::SelectTokens(scores, options.select, select_scratch, selected);
    std::vector<const std::byte*> chosen;
    for (const uint32_t token : selected) chosen.push_back(head_rows + token * row_bytes);
    kernels::Fac({.shape = model.head,
                  .group = group,
                  .scale = options.scale,
                  .queries = queries.data() + offset,
                  .out = out.data() + offset},
                 chosen);
  }
  return out;
}

std::vector<double> EngineWorld::ReferenceHead(const float* query,
                                               const std::vector<std::vector<std::byte>>& rows,
                                               float scale) const {
  const size_t dim = model.head.head_dim;
  std::vector<std::vector<float>> values;
  std::vector<double> logits;
  for (const std::vector<std::byte>& row : rows) {
    values.emplace_back(2 * dim);
    kernels::DTypeToFloat(row.data(), 2 * dim, model.head.dtype, values.back().data());
    double logit = 0;
    for (size_t d = 0; d < dim; ++d) logit += double{query[d]} * double{values.back()[d]};
    logits.push_back(logit * double{scale});
  }
  std::vector<double> out(dim, 0.0);
  if (rows.empty()) return out;
  const double peak = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const double weight = std::exp(logits[i] - peak);
    sum += weight;
    for (size_t d = 0; d < dim; ++d) out[d] += weight * double{values[i][dim + d]};
  }
  for (double& value : out) value /= sum;
  return out;
}

std::vector<double> EngineWorld::Reference(uint32_t layer, const std::vector<uint32_t>& ids,
                                           float scale) const {
  const uint64_t last = ids.size() - 1;
  const std::vector<float> queries = Queries(layer, last, ids[last]);
  std::vector<double> out;
  for (uint32_t head = 0; head < model.query_heads; ++head) {
    std::vector<std::vector<std::byte>> rows;
    for (uint64_t i = 0; i < ids.size(); ++i) {
      rows.push_back(Row(layer, head / model.group(), i, ids[i]));
    }
    const std::vector<double> one =
        ReferenceHead(queries.data() + size_t{head} * model.head.head_dim, rows, scale);
    out.insert(out.end(), one.begin(), one.end());
  }
  return out;
}

std::unique_ptr<Engine> EngineWorld::MakeEngine(KvService& service,
                                                const EngineOptions& options) const {
  auto engine = Engine::Create(&service, model, profile, options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

Status Driven::Prefill(Engine& engine, const EngineWorld& world, const std::vector<uint32_t>& more,
                       Random& random) {
  ids.insert(ids.end(), more.begin(), more.end());
  for (uint32_t layer = 0; layer < world.model.layers; ++layer) {
    while (sequence->length(layer) < ids.size()) {
      const uint64_t first = sequence->length(layer);
      const auto left = static_cast<uint32_t>(ids.size() - first);
      const uint64_t count = 1 + Below(random, left);
      const std::vector<std::byte> rows = world.RangeRows(layer, ids, first, count);
      PASSBAND_RETURN_IF_ERROR(engine.AppendRows(*sequence, layer, first, count, rows.data()));
    }
  }
  return OkStatus();
}

StatusOr<std::vector<std::vector<std::vector<float>>>> StepTokens(
    Engine& engine, const EngineWorld& world, const std::vector<Driven*>& batch,
    const std::vector<uint32_t>& token_ids, bool full) {
  std::vector<std::vector<std::vector<float>>> outs(world.model.layers);
  for (uint32_t layer = 0; layer < world.model.layers; ++layer) {
    std::vector<std::vector<std::byte>> rows;
    std::vector<std::vector<float>> queries;
    outs[layer].assign(batch.size(), std::vector<float>(world.out_size()));
    std::vector<StepItem> items;
    for (size_t i = 0; i < batch.size(); ++i) {
      const uint64_t position = batch[i]->ids.size();
      rows.push_back(world.TokenRows(layer, position, token_ids[i]));
      queries.push_back(world.Queries(layer, position, token_ids[i]));
      items.push_back({.sequence = batch[i]->sequence.get(),
                       .queries = queries[i].data(),
                       .new_rows = rows[i].data(),
                       .out = outs[layer][i].data()});
    }
    PASSBAND_RETURN_IF_ERROR(full ? engine.StepFull(layer, items) : engine.Step(layer, items));
  }
  for (size_t i = 0; i < batch.size(); ++i) batch[i]->ids.push_back(token_ids[i]);
  return outs;
}

std::vector<uint32_t> RandomIds(Random& random, size_t count) {
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) id = Below(random, 50000);
  return ids;
}

}  // namespace passband::testing
