#include "tests/support/map_kv_service.h"

#include <algorithm>
#include <utility>

#include "kernels/slice.h"

namespace passband {
namespace {

class MapPending final : public PendingRows {
 public:
  explicit MapPending(StatusOr<std::vector<std::byte>> rows) : rows_(std::move(rows)) {}
  bool Ready() override { return true; }
  StatusOr<std::span<const std::byte>> Wait() override {
    if (!rows_.ok()) return rows_.status();
    return std::span<const std::byte>(*rows_);
  }

 private:
  StatusOr<std::vector<std::byte>> rows_;
};

}  // namespace

Status MapKvService::Enter(const std::string& call) {
  ++calls[call];
  return fault ? fault(call) : OkStatus();
}

StatusOr<MapKvService::Sequence*> MapKvService::Find(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return Error(StatusCode::kNotFound, "no sequence {}", id);
  return &it->second;
}

Status MapKvService::RegisterModel(const ModelInfo& model) {
  PASSBAND_RETURN_IF_ERROR(Enter("RegisterModel"));
  model_ = model;
  return OkStatus();
}

uint64_t MapKvService::Match(std::span<const uint32_t> token_ids, Sequence** best) {
  uint64_t matched = 0;
  for (auto& [id, sequence] : sequences_) {
    uint64_t usable = std::min(token_ids.size(), sequence.token_ids.size());
    for (const Layer& layer : sequence.layers) usable = std::min(usable, layer.stored);
    const auto differs =
        std::mismatch(token_ids.begin(), token_ids.begin() + usable, sequence.token_ids.begin());
    const uint64_t blocks = (differs.first - token_ids.begin()) / 64 * 64;
    if (blocks <= matched) continue;
    matched = blocks;
    *best = &sequence;
  }
  return matched;
}

StatusOr<OpenedSequence> MapKvService::Open(const OpenParams& params) {
  PASSBAND_RETURN_IF_ERROR(Enter("Open"));
  if (params.model != model_.fingerprint.text()) {
    return Error(StatusCode::kNotFound, "no model {}", params.model);
  }
  Sequence sequence{.token_ids = params.token_ids, .layers = {}};
  sequence.layers.resize(model_.layers);
  for (Layer& layer : sequence.layers) layer.heads.resize(model_.kv_heads);
  Sequence* like = nullptr;
  const uint64_t matched = params.share_prefix ? Match(params.token_ids, &like) : 0;
  for (uint32_t i = 0; matched > 0 && i < model_.layers; ++i) {
    sequence.layers[i] = like->layers[i];
    sequence.layers[i].stored = matched;
    for (auto& rows : sequence.layers[i].heads) rows.resize(matched);
  }
  const SequenceId id(next_id_++);
  sequences_[id] = std::move(sequence);
  return OpenedSequence{.id = id, .matched_tokens = matched};
}

StatusOr<SequenceId> MapKvService::Fork(SequenceId sequence, uint64_t tokens) {
  PASSBAND_RETURN_IF_ERROR(Enter("Fork"));
  PASSBAND_ASSIGN_OR_RETURN(const Sequence* parent, Find(sequence));
  Sequence child = *parent;
  for (Layer& layer : child.layers) {
    if (layer.stored < tokens) return Error(StatusCode::kOutOfRange, "fork past the end");
    layer.stored = tokens;
    for (auto& rows : layer.heads) rows.resize(tokens);
  }
  child.token_ids.resize(std::min<uint64_t>(child.token_ids.size(), tokens));
  child.sealed = false;
  const SequenceId id(next_id_++);
  sequences_[id] = std::move(child);
  return id;
}

Status MapKvService::Extend(SequenceId id, uint64_t first, std::span<const uint32_t> token_ids) {
  PASSBAND_RETURN_IF_ERROR(Enter("Extend"));
  PASSBAND_ASSIGN_OR_RETURN(Sequence * sequence, Find(id));
  if (first != sequence->token_ids.size()) {
    return Error(StatusCode::kFailedPrecondition, "{} token ids are known, not {}",
                 sequence->token_ids.size(), first);
  }
  sequence->token_ids.insert(sequence->token_ids.end(), token_ids.begin(), token_ids.end());
  return OkStatus();
}

Status MapKvService::Truncate(SequenceId id, uint64_t tokens) {
  PASSBAND_RETURN_IF_ERROR(Enter("Truncate"));
  PASSBAND_ASSIGN_OR_RETURN(Sequence * sequence, Find(id));
  for (Layer& layer : sequence->layers) {
    for (auto& rows : layer.heads) rows.resize(std::min<uint64_t>(rows.size(), tokens));
    layer.stored = std::min(layer.stored, tokens);
  }
  sequence->token_ids.resize(std::min<uint64_t>(sequence->token_ids.size(), tokens));
  return OkStatus();
}

Status MapKvService::Seal(SequenceId id) {
  PASSBAND_RETURN_IF_ERROR(Enter("Seal"));
  PASSBAND_ASSIGN_OR_RETURN(Sequence * sequence, Find(id));
  sequence->sealed = true;
  return OkStatus();
}

Status MapKvService::Pin(SequenceId id, std::chrono::milliseconds) {
  PASSBAND_RETURN_IF_ERROR(Enter("Pin"));
  return Find(id).status();
}

Status MapKvService::Unpin(SequenceId id) {
  PASSBAND_RETURN_IF_ERROR(Enter("Unpin"));
  return Find(id).status();
}

Status MapKvService::Close(SequenceId id) {
  PASSBAND_RETURN_IF_ERROR(Enter("Close"));
  PASSBAND_RETURN_IF_ERROR(Find(id).status());
  sequences_.erase(id);
  return OkStatus();
}

StatusOr<SequenceStat> MapKvService::Stat(SequenceId id) {
  PASSBAND_RETURN_IF_ERROR(Enter("Stat"));
  PASSBAND_ASSIGN_OR_RETURN(const Sequence* sequence, Find(id));
  SequenceStat stat{.id = id, .sealed = sequence->sealed};
  stat.known_tokens = sequence->token_ids.size();
  stat.committed_tokens = sequence->layers[0].stored;
  for (const Layer& layer : sequence->layers) {
    stat.committed_tokens = std::min(stat.committed_tokens, layer.stored);
  }
  return stat;
}

StatusOr<std::vector<SequenceStat>> MapKvService::List(SequenceId after, uint32_t limit) {
  std::vector<SequenceStat> out;
  for (const auto& [id, sequence] : sequences_) {
    if (id <= after || out.size() == limit) continue;
    PASSBAND_ASSIGN_OR_RETURN(SequenceStat stat, Stat(id));
    out.push_back(std::move(stat));
  }
  return out;
}

StatusOr<uint64_t> MapKvService::Lookup(const std::string&, std::span<const uint32_t> token_ids) {
  PASSBAND_RETURN_IF_ERROR(Enter("Lookup"));
  Sequence* best = nullptr;
  return Match(token_ids, &best);
}

StatusOr<const MapKvService::Row*> MapKvService::FindRow(SequenceId id, uint32_t layer,
                                                         uint32_t kv_head, uint64_t token) {
  PASSBAND_ASSIGN_OR_RETURN(const Sequence* sequence, Find(id));
  if (layer >= model_.layers || kv_head >= model_.kv_heads) {
    return Error(StatusCode::kInvalidArgument, "layer {} head {}", layer, kv_head);
  }
  const Layer& rows = sequence->layers[layer];
  if (token >= rows.stored) {
    return Error(StatusCode::kOutOfRange, "token {} of layer {}, {} are stored", token, layer,
                 rows.stored);
  }
  return &rows.heads[kv_head][token];
}

StatusOr<MapKvService::Row> MapKvService::Gather(const FetchRequest& request) {
  Row out;
  for (const FetchGroup& group : request.groups) {
    if (group.tokens.empty()) return Error(StatusCode::kInvalidArgument, "an empty group");
    for (const uint32_t token : group.tokens) {
      PASSBAND_ASSIGN_OR_RETURN(const Row* row,
                                FindRow(group.sequence, group.layer, group.kv_head, token));
      out.insert(out.end(), row->begin(), row->end());
    }
  }
  return out;
}

StatusOr<MapKvService::Row> MapKvService::Read(const RangeRequest& request,
                                               const Profile* profile) {
  Row out;
  for (uint32_t head = 0; head < model_.kv_heads; ++head) {
    for (uint64_t i = 0; i < request.count; ++i) {
      PASSBAND_ASSIGN_OR_RETURN(
          const Row* row, FindRow(request.sequence, request.layer, head, request.first_token + i));
      Row bytes = *row;
      if (profile != nullptr) {
        bytes.resize(profile->slice_bytes());
        kernels::EncodeSlices(*profile->spec(request.layer, head), row->data(), row->size(), 1,
                              bytes.data());
      }
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
  }
  return out;
}

std::unique_ptr<PendingRows> MapKvService::StartFetch(const FetchRequest& request) {
  Report(request.report);
  const Status entered = Enter("StartFetch");
  if (!entered.ok()) return std::make_unique<MapPending>(entered);
  return std::make_unique<MapPending>(Gather(request));
}

std::unique_ptr<PendingRows> MapKvService::StartRead(const RangeRequest& request) {
  const Status entered = Enter("StartRead");
  if (!entered.ok()) return std::make_unique<MapPending>(entered);
  return std::make_unique<MapPending>(Read(request, nullptr));
}

std::unique_ptr<PendingRows> MapKvService::StartSlices(
    const RangeRequest& request, const std::shared_ptr<const Profile>& profile) {
  const Status entered = Enter("StartSlices");
  if (!entered.ok()) return std::make_unique<MapPending>(entered);
  return std::make_unique<MapPending>(Read(request, profile.get()));
}

Status MapKvService::Append(const AppendRequest& request) {
  PASSBAND_RETURN_IF_ERROR(Enter("Append"));
  PASSBAND_ASSIGN_OR_RETURN(Sequence * sequence, Find(request.sequence));
  if (sequence->sealed) return Error(StatusCode::kFailedPrecondition, "sealed");
  Layer& layer = sequence->layers[request.layer];
  const size_t row_bytes = model_.head.row_bytes();
  if (request.count == 0 || request.first_token % 64 + request.count > 64 ||
      request.rows.size() != request.count * model_.kv_heads * row_bytes) {
    return Error(StatusCode::kInvalidArgument, "{} tokens at {}, {} bytes", request.count,
                 request.first_token, request.rows.size());
  }
  if (request.first_token != layer.length()) {
    return Error(StatusCode::kFailedPrecondition, "token {} after {}", request.first_token,
                 layer.length());
  }
  const std::byte* next = request.rows.data();
  for (auto& rows : layer.heads) {
    for (uint32_t i = 0; i < request.count; ++i, next += row_bytes) {
      rows.emplace_back(next, next + row_bytes);
    }
  }
  return OkStatus();
}

Status MapKvService::Flush(SequenceId id) {
  PASSBAND_RETURN_IF_ERROR(Enter("Flush"));
  PASSBAND_ASSIGN_OR_RETURN(Sequence * sequence, Find(id));
  for (Layer& layer : sequence->layers) layer.stored = layer.length();
  return OkStatus();
}

void MapKvService::Report(const SelectionReport& report) {
  ++calls["Report"];
  reported.selected_rows += report.selected_rows;
  reported.hot_rows += report.hot_rows;
  reported.full_attention_bytes += report.full_attention_bytes;
}

}  // namespace passband
