#include "services/worker/eval/scored_walk.h"

namespace passband {

ScoredWalk::ScoredWalk(Kind kind, Parts parts)
    : kind_(kind), parts_(std::move(parts)), keys_(parts_.engine->model(), parts_.scale) {}

Status ScoredWalk::Attend(const AttendArgs& args) {
  if (args.items.size() != 1) {
    return Error(StatusCode::kInvalidArgument, "one document is walked at a time, not {}",
                 args.items.size());
  }
  const AttendItem& item = args.items[0];
  const ModelInfo& model = parts_.engine->model();
  const size_t query_stride = size_t{model.query_heads} * model.head.head_dim;
  if (parts_.selector != nullptr) {
    keys_.Begin(args.layer, *parts_.prompt_keys, item.rows, item.count);
    parts_.selector->BeginLayer(keys_);
  }
  std::vector<std::byte> row(model.kv_heads * model.head.row_bytes());
  for (uint32_t i = 0; i < item.count; ++i) {
    CopyTokenRows(item.rows, model.kv_heads, item.count, model.head.row_bytes(), i, row.data());
    const float* queries = item.queries + i * query_stride;
    PASSBAND_RETURN_IF_ERROR(
        Step(args.layer, {parts_.sequence, queries, row.data(), item.out + i * query_stride}));
    if (parts_.probe != nullptr && parts_.selector != nullptr && i % kProbeEvery == 0) {
      PASSBAND_RETURN_IF_ERROR(Look(args.layer, item.first_position + i + 1, queries));
    }
  }
  if (parts_.on_steps) parts_.on_steps(item.count);
  return OkStatus();
}

Status ScoredWalk::Step(uint32_t layer, const StepItem& item) {
  const std::span<const StepItem> items(&item, 1);
  switch (kind_) {
    case Kind::kFull:
      return parts_.engine->StepFull(layer, items);
    case Kind::kOwn:
      return parts_.engine->Step(layer, items);
    case Kind::kSelector:
      return parts_.engine->Step(layer, items, *parts_.selector);
  }
  return OkStatus();
}

Status ScoredWalk::Look(uint32_t layer, uint64_t context, const float* queries) {
  const ModelInfo& model = parts_.engine->model();
  for (uint32_t head = 0; head < model.kv_heads; ++head) {
    const float* group_queries = queries + size_t{head} * model.group() * model.head.head_dim;
    PASSBAND_RETURN_IF_ERROR(
        parts_.selector->Select(*parts_.sequence, layer, head, context, group_queries, sets_));
    parts_.probe->Look(keys_, head, context, group_queries, sets_);
  }
  return OkStatus();
}

}  // namespace passband
