#include "sdk/device/device_engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/cuda/fac.h"
#include "kernels/cuda/hot_rows.h"
#include "kernels/cuda/tip_select.h"
#include "sdk/device/device_engine_impl.h"

namespace passband {
namespace {

namespace gpu = kernels::cuda;
using gpu::Memory;

constexpr uint64_t kBlockTokens = DeviceSequence::kBlockTokens;
// Launches are laid out for lengths in these steps, not anew for every token.
constexpr uint32_t kPlanTokens = 4096;

Status CheckShape(const ModelInfo& model, const DeviceEngineOptions& options) {
  if (model.head.dtype != kernels::DType::kBf16) {
    return Error(StatusCode::kUnimplemented, "on a GPU rows are bf16; the model's are not");
  }
  if (model.group() > gpu::kMaxFacGroup) {
    return Error(StatusCode::kUnimplemented,
                 "{} query heads a kv head; at most {} are supported on a GPU", model.group(),
                 gpu::kMaxFacGroup);
  }
  const kernels::SelectOptions& select = options.select;
  if (select.budget == 0 || select.budget > gpu::kMaxSelected ||
      uint64_t{select.sinks} + select.recent > select.budget) {
    return Error(StatusCode::kInvalidArgument,
                 "a budget of {} rows: at most {}, and not less than {} sinks and {} recent tokens",
                 select.budget, gpu::kMaxSelected, select.sinks, select.recent);
  }
  return OkStatus();
}

}  // namespace

Status DeviceEngine::Impl::Grow(uint32_t problems) {
  if (problems <= scratch_problems) return OkStatus();
  const size_t rows = size_t{problems} * options.select.budget;
  // What is on its way may still use the old memory.
  const size_t words = size_t{problems} * 3;
  PASSBAND_ASSIGN_OR_RETURN(numbers, Memory::Allocate(words * 4));
  PASSBAND_ASSIGN_OR_RETURN(selected, Memory::Allocate(rows * 4));
  PASSBAND_ASSIGN_OR_RETURN(counts, Memory::Allocate(size_t{problems} * 4));
  if (shape.method == DeviceMethod::kFasaM) {
    PASSBAND_ASSIGN_OR_RETURN(row_pointers, Memory::Allocate(rows * sizeof(std::byte*)));
    PASSBAND_ASSIGN_OR_RETURN(missing, MissingRows::Create(shape, problems, options.select.budget));
  }
  scratch_problems = problems;
  return OkStatus();
}

Status DeviceEngine::Impl::Prepare(std::span<DeviceSequence* const> sequences) {
  const auto count = static_cast<uint32_t>(sequences.size());
  PASSBAND_RETURN_IF_ERROR(Grow(count * shape.model.kv_heads));
  if (tables.Matches(sequences)) return OkStatus();
  PASSBAND_ASSIGN_OR_RETURN(tables, StepTables::Create(shape, sequences));
  return OkStatus();
}

// Lengths with `count` new tokens, and where these begin.
Status DeviceEngine::Impl::WriteNumbers(uint32_t layer, std::span<DeviceSequence* const> sequences,
                                        uint32_t count) {
  std::vector<uint32_t> values;
  const auto write = [&](uint32_t* to) -> Status {
    for (size_t done = 0; done < values.size(); done += gpu::Words::kWords) {
      const size_t part = std::min<size_t>(gpu::Words::kWords, values.size() - done);
      gpu::Words words = {};
      std::copy_n(values.begin() + static_cast<ptrdiff_t>(done), part, words.value);
      PASSBAND_RETURN_IF_ERROR(
          gpu::WriteWords(words, static_cast<uint32_t>(part), to + done, stream()));
    }
    return OkStatus();
  };
  values.resize(scratch_problems * 3);
  for (size_t s = 0; s < sequences.size(); ++s) {
    const auto length = static_cast<uint32_t>(sequences[s]->layer(layer).length);
    values[s] = length + count;
    values[scratch_problems + s] = length;
    std::fill_n(
        values.begin() + static_cast<ptrdiff_t>(2 * scratch_problems + s * shape.model.kv_heads),
        shape.model.kv_heads, length + count);
  }
  return write(tokens());
}

Status DeviceEngine::Impl::KeepRows(uint32_t layer, const std::byte* rows, size_t stride,
                                    uint32_t count) {
  if (!shape.has_rows()) return OkStatus();
  return gpu::AppendRows({.problems = static_cast<int>(tables.problems()),
                          .kv_heads = static_cast<int>(shape.model.kv_heads),
                          .count = count,
                          .row_bytes = shape.row_bytes(),
                          .rows = rows,
                          .problem_stride = stride,
                          .begin = begin(),
                          .to = tables.rows(layer)},
                         stream());
}

Status DeviceEngine::Impl::KeepSlices(uint32_t layer, uint32_t sequences, const std::byte* rows,
                                      size_t stride, uint32_t count) {
  if (!shape.has_slices()) return OkStatus();
  return gpu::AppendKeys({.recipes = &recipes[layer],
                          .sequences = static_cast<int>(sequences),
                          .tokens = count,
                          .begin = begin(),
                          .tiles = tables.tiles(layer),
                          .data = rows,
                          .problem_stride = stride,
                          .token_stride = shape.row_bytes()},
                         stream());
}

Status DeviceEngine::Impl::Select(uint32_t layer, const DeviceStep& step, uint32_t max_tokens) {
  gpu::TipSelectArgs args;
  args.recipes = &recipes[layer];
  args.sequences = static_cast<int>(step.sequences.size());
  args.group = static_cast<int>(shape.model.group());
  args.scale = options.scale;
  args.select = options.select;
  args.max_tokens = max_tokens;
  args.tiles = tables.tiles(layer);
  args.tokens = tokens();
  args.queries = step.queries;
  args.selected = selected.data<uint32_t>();
  args.counts = counts.data<uint32_t>();
  PASSBAND_ASSIGN_OR_RETURN(const gpu::TipSelectPlan plan, gpu::PlanTipSelect(args, device));
  if (workspace.bytes() < plan.workspace_bytes) {
    PASSBAND_ASSIGN_OR_RETURN(workspace, Memory::Allocate(plan.workspace_bytes));
  }
  args.workspace = workspace.data();
  return gpu::TipSelect(args, plan, stream());
}

Status DeviceEngine::Impl::Attend(const DeviceStep& step, uint32_t layer, uint32_t max_tokens) {
  gpu::FacArgs args;
  args.shape = shape.model.head;
  args.problems = static_cast<int>(tables.problems());
  args.group = static_cast<int>(shape.model.group());
  args.scale = options.scale;
  args.max_rows = options.select.budget;
  args.counts = counts.data<uint32_t>();
  args.queries = step.queries;
  args.out = step.out;
  switch (shape.method) {
    case DeviceMethod::kFull:
      args.max_rows = max_tokens;
      args.counts = lengths();
      args.pages = tables.rows(layer);
      break;
    case DeviceMethod::kFasaC:
      args.indices = selected.data<uint32_t>();
      args.pages = tables.rows(layer);
      break;
    case DeviceMethod::kFasaM:
      args.rows = row_pointers.data<const std::byte*>();
      break;
  }
  PASSBAND_ASSIGN_OR_RETURN(const gpu::FacPlan plan, gpu::PlanFac(args, device));
  return gpu::Fac(args, plan, stream());
}

Status DeviceEngine::Impl::BringMissing(uint32_t layer, const DeviceStep& step) {
  gpu::HotArgs args;
  args.problems = static_cast<int>(tables.problems());
  args.kv_heads = static_cast<int>(shape.model.kv_heads);
  args.slots = shape.slots;
  args.max_selected = options.select.budget;
  args.row_bytes = shape.row_bytes();
  args.hot = tables.hot(layer);
  args.selected = selected.data<uint32_t>();
  args.counts = counts.data<uint32_t>();
  args.tokens = tokens();
  args.newest = step.rows;
  args.newest_stride = step.row_stride;
  args.rows = row_pointers.data<const std::byte*>();
  args.missing = missing->missing();
  args.missing_counts = missing->counts();
  SelectionReport report;
  for (DeviceSequence* sequence : step.sequences) {
    DeviceSequence::Layer& state = sequence->layer(layer);
    args.clock = std::max(args.clock, ++state.clock);
    const uint64_t heads = shape.model.kv_heads;
    // Without the newest, which nobody has to keep.
    report.selected_rows += std::min<uint64_t>(state.length, options.select.budget - 1) * heads;
    report.full_attention_bytes += state.length * heads * shape.row_bytes();
  }
  // One clock for all: what a sequence did not take part in makes its rows no younger.
  for (DeviceSequence* sequence : step.sequences) sequence->layer(layer).clock = args.clock;
  PASSBAND_RETURN_IF_ERROR(gpu::SelectHotRows(args, stream()));
  PASSBAND_RETURN_IF_ERROR(gpu::Synchronize(stream()));
  return missing->Bring(layer, step.sequences, report, stats);
}

Status DeviceEngine::Impl::CheckStep(uint32_t layer, const DeviceStep& step) const {
  if (layer >= shape.model.layers || step.sequences.empty()) {
    return Error(StatusCode::kInvalidArgument, "layer {} of {}, {} sequences", layer,
                 shape.model.layers, step.sequences.size());
  }
  for (const DeviceSequence* sequence : step.sequences) {
    PASSBAND_RETURN_IF_ERROR(sequence->poison());
    if (sequence->layer(layer).length >= sequence->capacity()) {
      return Error(StatusCode::kOutOfRange, "the sequence is full: it was opened for {} tokens",
                   sequence->capacity());
    }
  }
  return OkStatus();
}

Status DeviceEngine::Step(uint32_t layer, const DeviceStep& step) {
  Impl& impl = *impl_;
  PASSBAND_RETURN_IF_ERROR(impl.CheckStep(layer, step));
  PASSBAND_RETURN_IF_ERROR(impl.Prepare(step.sequences));
  uint64_t longest = 0;
  for (const DeviceSequence* s : step.sequences)
    longest = std::max(longest, s->layer(layer).length);
  const auto max_tokens = static_cast<uint32_t>((longest / kPlanTokens + 1) * kPlanTokens);
  PASSBAND_RETURN_IF_ERROR(impl.WriteNumbers(layer, step.sequences, 1));
  PASSBAND_RETURN_IF_ERROR(impl.KeepRows(layer, step.rows, step.row_stride, 1));
  if (impl.shape.has_slices()) {
    const auto sequences = static_cast<uint32_t>(step.sequences.size());
    PASSBAND_RETURN_IF_ERROR(impl.KeepSlices(layer, sequences, step.rows, step.row_stride, 1));
    PASSBAND_RETURN_IF_ERROR(impl.Select(layer, step, max_tokens));
  }
  const bool fetches = impl.shape.method == DeviceMethod::kFasaM;
  if (fetches) {
    if (const Status status = impl.BringMissing(layer, step); !status.ok()) {
      for (DeviceSequence* sequence : step.sequences) sequence->Poison(status);
      return status;
    }
  }
  PASSBAND_RETURN_IF_ERROR(impl.Attend(step, layer, max_tokens));
  for (DeviceSequence* sequence : step.sequences) {
    DeviceSequence::Layer& state = sequence->layer(layer);
    ++state.length;
    ++impl.stats.steps;
    // Its tail was written before the GPU listed what is missing.
    if (fetches && state.length % kBlockTokens == 0) {
      PASSBAND_RETURN_IF_ERROR(sequence->SendTail(layer, state.length));
    }
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<DeviceSequence>> DeviceEngine::Open(std::span<const uint32_t> token_ids,
                                                             uint64_t capacity, bool share_prefix) {
  Impl& impl = *impl_;
  impl.tables = StepTables();  // it knows sequences by address
  if (impl.shape.has_rows()) return DeviceSequence::Create(impl.shape, capacity, SequenceId(), 0);
  // At least one token is left to compute (engine.cc).
  const size_t size = token_ids.size();
  const size_t matchable = size > 0 && size % kBlockTokens == 0 ? size - 1 : size;
  const auto ids = token_ids.first(matchable);
  PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened,
                            impl.shape.service->Open({.model = model().fingerprint.text(),
                                                      .token_ids = {ids.begin(), ids.end()},
                                                      .share_prefix = share_prefix}));
  auto sequence = DeviceSequence::Create(impl.shape, capacity, opened.id, opened.matched_tokens);
  if (!sequence.ok()) return sequence;
  if (matchable < size) {
    PASSBAND_RETURN_IF_ERROR(
        impl.shape.service->Extend(opened.id, matchable, token_ids.subspan(matchable)));
  }
  PASSBAND_RETURN_IF_ERROR(impl.AttachSlices(**sequence, opened.matched_tokens));
  return sequence;
}

StatusOr<std::unique_ptr<DeviceEngine>> DeviceEngine::Create(KvService* service,
                                                             const ModelInfo& model,
                                                             std::shared_ptr<const Profile> profile,
                                                             const DeviceEngineOptions& options) {
  PASSBAND_RETURN_IF_ERROR(CheckShape(model, options));
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  DeviceEngineOptions& resolved = impl->options;
  resolved.select.recent = std::max(resolved.select.recent, 1U);
  if (resolved.scale == 0)
    resolved.scale = 1.0F / std::sqrt(static_cast<float>(model.head.head_dim));
  if (resolved.hot_rows == 0) resolved.hot_rows = 4 * resolved.select.budget;
  resolved.hot_rows = std::clamp(resolved.hot_rows, resolved.select.budget + 1, gpu::kNoSlot - 1U);
  PASSBAND_ASSIGN_OR_RETURN(impl->device, gpu::CurrentDevice());
  impl->shape = {.model = model,
                 .method = options.method,
                 .slice = {},
                 .slots = resolved.hot_rows,
                 .service = service,
                 .stream = options.stream};
  if (impl->shape.has_slices()) {
    if (profile == nullptr || profile->granularity != Profile::Granularity::kKvHead) {
      return Error(StatusCode::kInvalidArgument, "fasa on a GPU needs a profile per kv head");
    }
    PASSBAND_RETURN_IF_ERROR(profile->CheckModel(model.fingerprint));
    for (uint32_t layer = 0; layer < model.layers; ++layer) {
      std::vector<kernels::SliceSpec> specs;
      for (uint32_t head = 0; head < model.kv_heads; ++head) {
        specs.push_back(*profile->spec(layer, head));
      }
      PASSBAND_ASSIGN_OR_RETURN(gpu::SliceRecipes recipes, gpu::SliceRecipes::Upload(specs));
      impl->recipes.push_back(std::move(recipes));
    }
    impl->shape.slice = impl->recipes[0].shape();
  }
  impl->profile = std::move(profile);
  if (!impl->shape.has_rows()) PASSBAND_RETURN_IF_ERROR(service->RegisterModel(model));
  return std::unique_ptr<DeviceEngine>(new DeviceEngine(std::move(impl)));
}

DeviceEngine::DeviceEngine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeviceEngine::~DeviceEngine() = default;

EngineStats DeviceEngine::stats() const { return impl_->stats; }
void DeviceEngine::ResetStats() { impl_->stats = {}; }
const ModelInfo& DeviceEngine::model() const { return impl_->shape.model; }
StatusOr<std::vector<uint32_t>> DeviceEngine::LastSelection(uint32_t problem) const {
  const uint32_t budget = impl_->options.select.budget;
  uint32_t count = 0;
  PASSBAND_RETURN_IF_ERROR(
      gpu::CopyToHost(&count, impl_->counts.data<uint32_t>() + problem, 4, impl_->stream()));
  PASSBAND_RETURN_IF_ERROR(gpu::Synchronize(impl_->stream()));
  std::vector<uint32_t> out(count);
  PASSBAND_RETURN_IF_ERROR(
      gpu::CopyToHost(out.data(), impl_->selected.data<uint32_t>() + size_t{problem} * budget,
                      size_t{count} * 4, impl_->stream()));
  PASSBAND_RETURN_IF_ERROR(gpu::Synchronize(impl_->stream()));
  return out;
}
const DeviceEngineOptions& DeviceEngine::options() const { return impl_->options; }
KvService* DeviceEngine::service() const { return impl_->shape.service; }
uint64_t DeviceEngine::scratch_bytes() const {
  return impl_->numbers.bytes() + impl_->selected.bytes() + impl_->counts.bytes() +
         impl_->row_pointers.bytes() + impl_->workspace.bytes() + impl_->layer_rows.bytes();
}

}  // namespace passband
