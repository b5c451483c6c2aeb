#include "services/worker/device_host.h"

#include <map>

#include "llama/device_forward.h"
#include "sdk/device/device_engine.h"
#include "services/worker/model_info.h"

namespace passband {
namespace {

StatusOr<DeviceMethod> ParseDeviceMethod(const std::string& name) {
  if (name == "full") return DeviceMethod::kFull;
  if (name == "fasa-c") return DeviceMethod::kFasaC;
  if (name == "fasa-m" || name == "fasa") return DeviceMethod::kFasaM;
  return Error(StatusCode::kInvalidArgument, "method {} does not exist on a GPU", name);
}

class DeviceHost final : public SequenceHost {
 public:
  DeviceHost(std::unique_ptr<DeviceEngine> engine, DeviceHostOptions options)
      : engine_(std::move(engine)), options_(std::move(options)) {}

  StatusOr<Opened> Open(uint64_t handle, std::span<const uint32_t> prompt, uint64_t capacity,
                        bool share_prefix) override {
    PASSBAND_ASSIGN_OR_RETURN(auto sequence, engine_->Open(prompt, capacity, share_prefix));
    const Opened opened{sequence->id(), sequence->attached_tokens()};
    entries_[handle] = {std::move(sequence), prompt.size()};
    return opened;
  }

  Status Flush(uint64_t handle) override {
    return in_service() ? entries_.at(handle).sequence->Flush() : OkStatus();
  }

  Status Keep(uint64_t handle, uint64_t first, const std::vector<uint32_t>& named) override {
    DeviceSequence& sequence = *entries_.at(handle).sequence;
    if (!in_service()) {
      return Error(StatusCode::kFailedPrecondition, "method {} keeps its rows on the GPU alone",
                   options_.method);
    }
    PASSBAND_RETURN_IF_ERROR(sequence.Flush());
    if (!named.empty()) {
      PASSBAND_RETURN_IF_ERROR(engine_->service()->Extend(sequence.id(), first, named));
    }
    return sequence.Seal();
  }

  void AddMemory(uint64_t handle, uint64_t attended, MemoryReport& report) const override {
    const DeviceSequence& sequence = *entries_.at(handle).sequence;
    report.tokens += attended;
    report.full_kv_bytes += attended * model().token_bytes();
    report.slice_bytes += sequence.slice_bytes();
    report.hot_row_bytes += sequence.hot_row_bytes();
    report.tail_bytes += sequence.tail_bytes();
    report.device_row_bytes += sequence.row_memory_bytes();
  }

  EngineStats stats() const override { return engine_->stats(); }
  void ResetStats() override { engine_->ResetStats(); }
  const ModelInfo& model() const override { return engine_->model(); }
  std::string transport() const override {
    if (!in_service()) return "device memory";
    return engine_->service()->transport() + ", copied to pinned memory";
  }
  uint64_t peak_layer_bytes() const override { return peak_layer_bytes_; }

  Status Attend(const AttendArgs& args) override;

 private:
  struct Entry {
    std::unique_ptr<DeviceSequence> sequence;
    uint64_t prompt_tokens = 0;
  };

  bool in_service() const { return engine_->options().method == DeviceMethod::kFasaM; }
  Status Prompt(uint32_t layer, const Entry& entry, const AttendItem& item);
  Status Walk(uint32_t layer, const Entry& entry, const AttendItem& item);

  std::unique_ptr<DeviceEngine> engine_;
  const DeviceHostOptions options_;
  std::map<uint64_t, Entry> entries_;
  std::vector<DeviceSequence*> batch_;
  uint64_t peak_layer_bytes_ = 0;
};

// Items of one new token each lie next to each other in the model's activations.
Status DeviceHost::Attend(const AttendArgs& args) {
  const size_t row_bytes = model().head.row_bytes();
  batch_.clear();
  for (const AttendItem& item : args.items) {
    const auto found = entries_.find(item.handle);
    if (found == entries_.end()) {
      return Error(StatusCode::kInvalidArgument, "sequence {} is not attended to", item.handle);
    }
    const Entry& entry = found->second;
    const bool prompt = item.first_position < entry.prompt_tokens;
    if (!prompt && item.count == 1 && args.items.size() > 1) {
      batch_.push_back(entry.sequence.get());
      continue;
    }
    PASSBAND_RETURN_IF_ERROR(prompt ? Prompt(args.layer, entry, item)
                                    : Walk(args.layer, entry, item));
  }
  if (batch_.empty()) return OkStatus();
  if (batch_.size() != args.items.size()) {
    return Error(StatusCode::kInvalidArgument, "prompts and single tokens in one batch");
  }
  return engine_->Step(args.layer, {.sequences = batch_,
                                    .queries = args.items[0].queries,
                                    .rows = args.items[0].rows,
                                    .row_stride = row_bytes,
                                    .out = args.items[0].out});
}

Status DeviceHost::Prompt(uint32_t layer, const Entry& entry, const AttendItem& item) {
  PASSBAND_RETURN_IF_ERROR(engine_->Prompt(layer, {.sequence = entry.sequence.get(),
                                                   .first = item.first_position,
                                                   .count = item.count,
                                                   .queries = item.queries,
                                                   .rows = item.rows,
                                                   .out = item.out}));
  if (in_service()) {
    const uint64_t bytes =
        (item.first_position + item.count) * model().kv_heads * model().head.row_bytes();
    peak_layer_bytes_ = std::max(peak_layer_bytes_, bytes);
  }
  if (options_.on_layer) options_.on_layer(item.count);
  return OkStatus();
}

// Position by position, as if each had been decoded on its own.
Status DeviceHost::Walk(uint32_t layer, const Entry& entry, const AttendItem& item) {
  const size_t row_bytes = model().head.row_bytes();
  const size_t width = size_t{model().query_heads} * model().head.head_dim;
  DeviceSequence* const sequence = entry.sequence.get();
  for (uint32_t i = 0; i < item.count; ++i) {
    PASSBAND_RETURN_IF_ERROR(engine_->Step(layer, {.sequences = std::span(&sequence, 1),
                                                   .queries = item.queries + i * width,
                                                   .rows = item.rows + i * row_bytes,
                                                   .row_stride = item.count * row_bytes,
                                                   .out = item.out + i * width}));
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<SequenceHost>> MakeDeviceHost(const LlamaModel& model, KvService* service,
                                                       std::shared_ptr<const Profile> profile,
                                                       const DeviceHostOptions& options) {
  DeviceEngineOptions engine_options;
  PASSBAND_ASSIGN_OR_RETURN(engine_options.method, ParseDeviceMethod(options.method));
  engine_options.select = options.select;
  engine_options.hot_rows = options.hot_rows;
  engine_options.scale = model.config().attention_scale();
  engine_options.stream = model.device()->stream();
  PASSBAND_ASSIGN_OR_RETURN(auto engine, DeviceEngine::Create(service, ModelInfoOf(model),
                                                              std::move(profile), engine_options));
  return std::unique_ptr<SequenceHost>(std::make_unique<DeviceHost>(std::move(engine), options));
}

}  // namespace passband
