#include "sdk/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>

#include "base/mutex.h"
#include "sdk/full_step.h"
#include "sdk/prefix_attach.h"
#include "sdk/sequence_state.h"
#include "sdk/sparse_step.h"
#include "sdk/tip_selector.h"

namespace passband {
namespace {

constexpr uint64_t kBlockTokens = TailBuffer::kBlockTokens;
constexpr uint64_t kMaxTokens = std::numeric_limits<uint32_t>::max();

Status CheckModelShape(const ModelInfo& model) {
  if (model.layers == 0 || model.kv_heads == 0 || model.query_heads == 0 ||
      model.query_heads % model.kv_heads != 0 || model.group() > kernels::kMaxGroup) {
    return Error(StatusCode::kInvalidArgument,
                 "a model of {} layers with {} query and {} kv heads is not supported",
                 model.layers, model.query_heads, model.kv_heads);
  }
  if (model.head.head_dim == 0 || model.head.head_dim > kernels::kMaxHeadDim) {
    return Error(StatusCode::kInvalidArgument, "head_dim {} is not within 1 to {}",
                 model.head.head_dim, kernels::kMaxHeadDim);
  }
  return OkStatus();
}

Status CheckProfile(const Profile& profile, const ModelInfo& model) {
  PASSBAND_RETURN_IF_ERROR(profile.CheckModel(model.fingerprint));
  if (profile.granularity != Profile::Granularity::kKvHead) {
    return Error(StatusCode::kInvalidArgument,
                 "the profile {} has chunks per query head; the engine takes those per kv head",
                 profile.digest());
  }
  if (profile.layers != model.layers || profile.kv_heads != model.kv_heads ||
      profile.query_heads != model.query_heads || !(profile.shape == model.head)) {
    return Error(StatusCode::kInvalidArgument, "the profile {} has another shape than the model",
                 profile.digest());
  }
  return OkStatus();
}

Status ResolveOptions(const ModelInfo& model, EngineOptions& options) {
  const kernels::SelectOptions& select = options.select;
  if (select.budget == 0 || uint64_t{select.sinks} + select.recent > select.budget) {
    return Error(StatusCode::kInvalidArgument,
                 "a budget of {} rows does not hold {} sinks and {} recent tokens", select.budget,
                 select.sinks, select.recent);
  }
  if (options.hot_rows > RowCache::kMaxSlots) {
    return Error(StatusCode::kInvalidArgument, "{} hot rows a head; at most {} are supported",
                 options.hot_rows, RowCache::kMaxSlots);
  }
  if (options.hot_rows == 0) {
    options.hot_rows =
        static_cast<uint32_t>(std::min<uint64_t>(uint64_t{select.budget} * 4, RowCache::kMaxSlots));
  }
  if (options.scale == 0) options.scale = 1.0F / std::sqrt(static_cast<float>(model.head.head_dim));
  return OkStatus();
}

void Add(const EngineStats& from, EngineStats& to) {
  to.steps += from.steps;
  to.selected_rows += from.selected_rows;
  to.hot_rows += from.hot_rows;
  to.tail_rows += from.tail_rows;
  to.fetched_rows += from.fetched_rows;
  to.fetched_bytes += from.fetched_bytes;
  to.full_attention_bytes += from.full_attention_bytes;
  to.tip_seconds += from.tip_seconds;
  to.select_seconds += from.select_seconds;
  to.cache_seconds += from.cache_seconds;
  to.fetch_seconds += from.fetch_seconds;
  to.fac_seconds += from.fac_seconds;
}

}  // namespace

struct Engine::Impl {
  // The memory of one step at a time. There are as many as threads that have
  // stepped at once.
  struct Scratch {
    explicit Scratch(const Impl& engine)
        : sparse(engine.config->service, engine.config->model, engine.options.scale),
          full(engine.config->service, engine.config->model, engine.options.scale),
          selector(engine.options.select, engine.config->model.group(), engine.options.scale) {}

    SparseStep sparse;
    FullStep full;
    TipSelector selector;
    std::vector<SequenceState*> sequences;
    EngineStats stats;
  };

  std::unique_ptr<Scratch> TakeScratch();
  // Puts it back, and its statistics into the engine's.
  void ReturnScratch(std::unique_ptr<Scratch> scratch);

  Status CheckLayer(uint32_t layer) const;
  Status CheckSequence(const SequenceState& sequence) const;
  Status EnterStep(uint32_t layer, std::span<const StepItem> items,
                   std::vector<SequenceState*>& sequences);
  std::unique_ptr<WorkerSequence> MakeSequence(SequenceId id, uint64_t tokens,
                                               uint64_t known) const;
  template <typename Run>
  Status RunStep(uint32_t layer, std::span<const StepItem> items, Run run);

  std::shared_ptr<const SequenceConfig> config;
  EngineOptions options;
  std::atomic<uint64_t> step_ids{0};
  mutable Mutex mutex;
  EngineStats stats ABSL_GUARDED_BY(mutex);
  std::vector<std::unique_ptr<Scratch>> idle ABSL_GUARDED_BY(mutex);
};

std::unique_ptr<Engine::Impl::Scratch> Engine::Impl::TakeScratch() {
  MutexLock lock(mutex);
  if (idle.empty()) return std::make_unique<Scratch>(*this);
  std::unique_ptr<Scratch> scratch = std::move(idle.back());
  idle.pop_back();
  return scratch;
}

void Engine::Impl::ReturnScratch(std::unique_ptr<Scratch> scratch) {
  const EngineStats done = std::exchange(scratch->stats, {});
  MutexLock lock(mutex);
  Add(done, stats);
  idle.push_back(std::move(scratch));
}

Status Engine::Impl::CheckLayer(uint32_t layer) const {
  if (layer < config->model.layers) return OkStatus();
  return Error(StatusCode::kInvalidArgument, "layer {} of a model of {}", layer,
               config->model.layers);
}

Status Engine::Impl::CheckSequence(const SequenceState& sequence) const {
  if (&sequence.config() != config.get()) {
    return Error(StatusCode::kInvalidArgument, "sequence {} is another engine's", sequence.id());
  }
  if (sequence.sealed()) {
    return Error(StatusCode::kFailedPrecondition, "sequence {} is sealed", sequence.id());
  }
  return OkStatus();
}

Status Engine::Impl::EnterStep(uint32_t layer, std::span<const StepItem> items,
                               std::vector<SequenceState*>& sequences) {
  PASSBAND_RETURN_IF_ERROR(CheckLayer(layer));
  const uint64_t step = ++step_ids;
  sequences.clear();
  for (const StepItem& item : items) {
    if (item.sequence == nullptr || item.queries == nullptr || item.new_rows == nullptr ||
        item.out == nullptr) {
      return Error(StatusCode::kInvalidArgument, "item {} of the step lacks a part",
                   sequences.size());
    }
    SequenceState& sequence = *item.sequence->impl_;
    PASSBAND_RETURN_IF_ERROR(CheckSequence(sequence));
    if (!sequence.EnterStep(step)) {
      return Error(StatusCode::kInvalidArgument, "sequence {} is twice in one step", sequence.id());
    }
    if (sequence.layer(layer).length() >= kMaxTokens) {
      return Error(StatusCode::kInvalidArgument, "sequence {} is full", sequence.id());
    }
    sequences.push_back(&sequence);
  }
  return OkStatus();
}

std::unique_ptr<WorkerSequence> Engine::Impl::MakeSequence(SequenceId id, uint64_t tokens,
                                                           uint64_t known) const {
  return std::unique_ptr<WorkerSequence>(
      new WorkerSequence(std::make_unique<WorkerSequence::Impl>(config, id, tokens, known)));
}

template <typename Run>
Status Engine::Impl::RunStep(uint32_t layer, std::span<const StepItem> items, Run run) {
  if (items.empty()) return CheckLayer(layer);
  std::unique_ptr<Scratch> scratch = TakeScratch();
  Status status = EnterStep(layer, items, scratch->sequences);
  if (status.ok()) status = run(*scratch);
  ReturnScratch(std::move(scratch));
  return status;
}

StatusOr<std::unique_ptr<Engine>> Engine::Create(KvService* service, const ModelInfo& model,
                                                 std::shared_ptr<const Profile> profile,
                                                 const EngineOptions& options) {
  EngineOptions resolved = options;
  PASSBAND_RETURN_IF_ERROR(CheckModelShape(model));
  PASSBAND_RETURN_IF_ERROR(ResolveOptions(model, resolved));
  if (profile) PASSBAND_RETURN_IF_ERROR(CheckProfile(*profile, model));
  PASSBAND_RETURN_IF_ERROR(service->RegisterModel(model));
  auto impl = std::make_unique<Impl>();
  impl->config = std::make_shared<const SequenceConfig>(
      SequenceConfig{.service = service,
                     .model = model,
                     .profile = std::move(profile),
                     .recent = std::max(resolved.select.recent, 1U),
                     .hot_rows = resolved.hot_rows});
  impl->options = resolved;
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

StatusOr<std::unique_ptr<WorkerSequence>> Engine::Open(std::span<const uint32_t> token_ids,
                                                       bool share_prefix) {
  // At least one token is left to compute: when the prompt ends with a block,
  // its last token is named only after the prefix was matched.
  const size_t size = token_ids.size();
  const size_t matchable = size > 0 && size % kBlockTokens == 0 ? size - 1 : size;
  const auto matchable_ids = token_ids.first(matchable);
  OpenParams params{.model = model().fingerprint.text(),
                    .token_ids = {matchable_ids.begin(), matchable_ids.end()},
                    .share_prefix = share_prefix};
  PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened, service().Open(params));
  const uint64_t matched = opened.matched_tokens;
  auto sequence = impl_->MakeSequence(opened.id, matched, matchable);
  if (matched % kBlockTokens != 0 || matched > matchable) {
    return Error(StatusCode::kInternal, "the service matched {} of {} tokens", matched, matchable);
  }
  if (matchable < size) {
    PASSBAND_RETURN_IF_ERROR(
        sequence->impl_->ExtendTokenIds(matchable, token_ids.subspan(matchable)));
  }
  PASSBAND_RETURN_IF_ERROR(AttachSlices(*sequence->impl_, matched));
  return sequence;
}

StatusOr<std::unique_ptr<WorkerSequence>> Engine::Fork(WorkerSequence& parent, uint64_t tokens) {
  SequenceState& from = *parent.impl_;
  if (&from.config() != impl_->config.get()) {
    return Error(StatusCode::kInvalidArgument, "sequence {} is another engine's", from.id());
  }
  for (uint32_t layer = 0; layer < model().layers; ++layer) {
    if (from.layer(layer).length() >= tokens) continue;
    return Error(StatusCode::kOutOfRange, "layer {} of sequence {} has {} tokens, fewer than {}",
                 layer, from.id(), from.layer(layer).length(), tokens);
  }
  if (!from.sealed()) PASSBAND_RETURN_IF_ERROR(from.Flush());
  PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, service().Fork(from.id(), tokens));
  auto child = impl_->MakeSequence(id, tokens, std::min(tokens, from.known_tokens()));
  child->impl_->CopySlices(from);
  return child;
}

Status Engine::AppendRows(WorkerSequence& sequence, uint32_t layer, uint64_t first, uint64_t count,
                          const std::byte* rows) {
  SequenceState& state = *sequence.impl_;
  PASSBAND_RETURN_IF_ERROR(impl_->CheckLayer(layer));
  PASSBAND_RETURN_IF_ERROR(impl_->CheckSequence(state));
  uint64_t position = state.layer(layer).length();
  if (first != position || count > kMaxTokens - position) {
    return Error(StatusCode::kOutOfRange,
                 "tokens [{}, +{}) of layer {} of sequence {}, which has {} tokens", first, count,
                 layer, state.id(), position);
  }
  const size_t row_bytes = model().head.row_bytes();
  const uint64_t end = first + count;
  while (position < end) {
    PASSBAND_RETURN_IF_ERROR(state.SendCompleteBlocks(layer));
    const uint64_t piece = std::min(kBlockTokens - position % kBlockTokens, end - position);
    state.Append(layer, rows + (position - first) * row_bytes, count * row_bytes,
                 static_cast<uint32_t>(piece));
    position += piece;
  }
  return state.SendCompleteBlocks(layer);
}

Status Engine::Step(uint32_t layer, std::span<const StepItem> items) {
  return impl_->RunStep(layer, items, [&](Impl::Scratch& scratch) {
    Status status =
        scratch.sparse.Run(layer, items, scratch.sequences, scratch.selector, scratch.stats);
    const double tip_seconds = scratch.selector.TakeTipSeconds();
    if (!status.ok()) return status;
    scratch.stats.tip_seconds += tip_seconds;
    scratch.stats.select_seconds -= tip_seconds;
    return status;
  });
}

Status Engine::Step(uint32_t layer, std::span<const StepItem> items, TokenSelector& selector) {
  return impl_->RunStep(layer, items, [&](Impl::Scratch& scratch) {
    return scratch.sparse.Run(layer, items, scratch.sequences, selector, scratch.stats);
  });
}

Status Engine::StepFull(uint32_t layer, std::span<const StepItem> items) {
  return impl_->RunStep(layer, items, [&](Impl::Scratch& scratch) {
    return scratch.full.Run(layer, items, scratch.sequences, scratch.stats);
  });
}

Status Engine::Flush(WorkerSequence& sequence) { return sequence.impl_->Flush(); }

EngineStats Engine::stats() const {
  MutexLock lock(impl_->mutex);
  return impl_->stats;
}

void Engine::ResetStats() {
  MutexLock lock(impl_->mutex);
  impl_->stats = {};
}

const ModelInfo& Engine::model() const { return impl_->config->model; }
const EngineOptions& Engine::options() const { return impl_->options; }
KvService& Engine::service() const { return *impl_->config->service; }

}  // namespace passband
