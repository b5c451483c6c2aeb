#include "services/worker/generation.h"

#include <algorithm>

#include "base/clock.h"
#include "llama/tokenizer.h"

namespace passband {
namespace {

// A prompt is computed in pieces of this many positions, so that activations
// stay small for any length.
constexpr uint64_t kPromptPiece = 8192;

double SecondsSince(Time start) { return Seconds(RealClock().Now() - start); }

// Where the first stop string begins; npos when there is none.
size_t FindStop(const std::string& text, const std::vector<std::string>& stops) {
  size_t first = std::string::npos;
  for (const std::string& stop : stops) first = std::min(first, text.find(stop));
  return first;
}

}  // namespace

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kContext:
      return "context";
  }
  return "none";
}

size_t HeldBackBytes(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t n = std::min(text.size(), stop.size()); n > held; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
        held = n;
        break;
      }
    }
  }
  return held;
}

Generation::Generation(const LlamaModel& model, Engine& engine, Settings settings,
                       std::function<void(uint64_t)> on_prefilled)
    : model_(model),
      own_host_(std::make_unique<EngineHost>(
          engine, model.pool(),
          EngineAttention::Options{.full = settings.full,
                                   .sparse_suffix = settings.sparse_suffix,
                                   .observer = nullptr,
                                   .on_layer = std::move(on_prefilled)})),
      host_(*own_host_),
      settings_(std::move(settings)) {}

Generation::Generation(const LlamaModel& model, SequenceHost& host, Settings settings)
    : model_(model), host_(host), settings_(std::move(settings)) {}

MemoryReport Generation::Report() const {
  MemoryReport report;
  for (size_t i = 0; i < streams_.size(); ++i) host_.AddMemory(i, streams_[i].attended, report);
  report.peak_layer_bytes = host_.peak_layer_bytes();
  report.AddSteps(host_.stats(), host_.model());
  return report;
}

Status Generation::Add(std::vector<uint32_t> prompt) {
  if (prompt.empty()) return Error(StatusCode::kInvalidArgument, "the prompt is empty");
  if (prompt.size() > model_.config().max_positions) {
    return Error(StatusCode::kInvalidArgument, "the prompt has {} tokens, the model takes {}",
                 prompt.size(), model_.config().max_positions);
  }
  Stream stream;
  Sampler::Options sampling = settings_.sampling;
  sampling.seed += streams_.size();
  PASSBAND_ASSIGN_OR_RETURN(stream.sampler, Sampler::Create(sampling));
  const uint64_t capacity =
      std::min<uint64_t>(prompt.size() + settings_.max_tokens, model_.config().max_positions);
  PASSBAND_ASSIGN_OR_RETURN(const SequenceHost::Opened opened,
                            host_.Open(streams_.size(), prompt, capacity, settings_.share_prefix));
  stream.sequence = opened.id;
  stream.attached = stream.attended = opened.attached;
  stream.prompt = std::move(prompt);
  streams_.push_back(std::move(stream));
  shown_.push_back(0);
  return OkStatus();
}

uint64_t Generation::prefill_steps() const {
  uint64_t steps = 0;
  for (const Stream& stream : streams_) {
    steps += (stream.prompt.size() - stream.attended) * model_.config().layers;
  }
  return steps;
}

Status Generation::Prefill(const OnText& on_text) {
  const Time start = RealClock().Now();
  for (size_t i = 0; i < streams_.size(); ++i) {
    PASSBAND_RETURN_IF_ERROR(PrefillStream(i, on_text));
  }
  times_.prefill_seconds = SecondsSince(start);
  return OkStatus();
}

Status Generation::PrefillStream(size_t index, const OnText& on_text) {
  Stream& stream = streams_[index];
  while (stream.attended < stream.prompt.size()) {
    const uint64_t count = std::min(kPromptPiece, stream.prompt.size() - stream.attended);
    const bool last = stream.attended + count == stream.prompt.size();
    const BatchItem item{std::span(stream.prompt).subspan(stream.attended, count), stream.attended,
                         index, last ? 1U : 0U};
    PASSBAND_ASSIGN_OR_RETURN(const Logits logits, model_.Forward(std::span(&item, 1), host_));
    stream.attended += count;
    times_.prefilled_tokens += count;
    if (last) Accept(index, logits.row(0), on_text);
  }
  return OkStatus();
}

bool Generation::finished() const {
  return std::all_of(streams_.begin(), streams_.end(),
                     [](const Stream& stream) { return stream.finish != FinishReason::kNone; });
}

Status Generation::Step(const OnText& on_text) {
  const Time start = RealClock().Now();
  std::vector<BatchItem> batch;
  for (size_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = streams_[i];
    if (stream.finish != FinishReason::kNone) continue;
    batch.push_back({std::span(stream.tokens).last(1), stream.attended, i, 1});
  }
  PASSBAND_ASSIGN_OR_RETURN(const Logits logits, model_.Forward(batch, host_));
  times_.decode_seconds += SecondsSince(start);
  times_.decoded_tokens += batch.size();
  for (size_t row = 0; row < batch.size(); ++row) {
    ++streams_[batch[row].handle].attended;
    Accept(batch[row].handle, logits.row(row), on_text);
  }
  return OkStatus();
}

void Generation::Accept(size_t index, std::span<const float> logits, const OnText& on_text) {
  Stream& stream = streams_[index];
  if (settings_.max_tokens == 0) return Finish(index, FinishReason::kLength, on_text);
  const uint32_t token = stream.sampler->Sample(logits);
  stream.tokens.push_back(token);
  if (model_.config().vocab_size == kByteVocabulary) {
    stream.text += static_cast<char>(token);
  } else {
    stream.text += fmt::format("{}{}", stream.tokens.size() > 1 ? " " : "", token);
  }
  const size_t stop = FindStop(stream.text, settings_.stops);
  if (stop != std::string::npos) {
    stream.text.resize(stop);
    return Finish(index, FinishReason::kStop, on_text);
  }
  if (stream.tokens.size() == settings_.max_tokens) {
    return Finish(index, FinishReason::kLength, on_text);
  }
  if (stream.attended == model_.config().max_positions) {
    return Finish(index, FinishReason::kContext, on_text);
  }
  const size_t ready = stream.text.size() - HeldBackBytes(stream.text, settings_.stops);
  if (ready > shown_[index]) {
    on_text(index, stream.text.substr(shown_[index], ready - shown_[index]));
    shown_[index] = ready;
  }
}

void Generation::Finish(size_t index, FinishReason reason, const OnText& on_text) {
  Stream& stream = streams_[index];
  stream.finish = reason;
  if (stream.text.size() > shown_[index]) on_text(index, stream.text.substr(shown_[index]));
  shown_[index] = stream.text.size();
}

Status Generation::Keep() {
  for (size_t i = 0; i < streams_.size(); ++i) {
    const Stream& stream = streams_[i];
    // The last token was sampled, never computed: it has no row.
    const uint64_t generated = stream.attended - stream.prompt.size();
    const std::vector<uint32_t> named(stream.tokens.begin(),
                                      stream.tokens.begin() + static_cast<ptrdiff_t>(generated));
    PASSBAND_RETURN_IF_ERROR(host_.Keep(i, stream.prompt.size(), named));
  }
  return OkStatus();
}

}  // namespace passband
