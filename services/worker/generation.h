// Generation: a batch of prompts, continued token by token, with their keys and
// values in the service.
//
//   Generation generation(model, engine, settings);
//   generation.Add(tokens)...      opens sequences, attaching cached prefixes
//   generation.Prefill()
//   while (!generation.finished()) generation.Step(on_token);
//
// Each step is one Forward of every unfinished sequence: one engine step, hence
// one fetch, for each layer.
//
// Threads    one at a time.
// Ownership  borrows model and engine; owns the sequences.
// Errors     the model's and the engine's; a failed step leaves the texts as
//            they were.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama/model.h"
#include "llama/sampler.h"
#include "sdk/engine.h"
#include "services/worker/sequence_host.h"

namespace passband {

enum class FinishReason : uint8_t { kNone, kLength, kStop, kContext };

// "length", "stop", "context".
const char* FinishReasonName(FinishReason reason);

class Generation {
 public:
  struct Settings {
    bool full = false;
    bool sparse_suffix = false;
    Sampler::Options sampling;
    uint32_t max_tokens = 256;
    std::vector<std::string> stops;  // byte models only; not part of the text
    bool share_prefix = true;
  };

  struct Stream {
    std::vector<uint32_t> prompt;
    std::vector<uint32_t> tokens;  // generated
    std::string text;              // of `tokens`, for byte models
    FinishReason finish = FinishReason::kNone;
    SequenceId sequence;  // in the service
    uint64_t attached = 0;
    std::optional<Sampler> sampler;
    uint64_t attended = 0;  // positions whose rows are stored
  };

  struct Times {
    double prefill_seconds = 0;
    double decode_seconds = 0;
    uint64_t decoded_tokens = 0;
    uint64_t prefilled_tokens = 0;  // computed, not attached

    double decode_rate() const {
      return decode_seconds > 0 ? static_cast<double>(decoded_tokens) / decode_seconds : 0;
    }
  };

  // `text` is what may be shown of the stream since the last call.
  using OnText = std::function<void(size_t stream, const std::string& text)>;

  Generation(const LlamaModel& model, Engine& engine, Settings settings,
             std::function<void(uint64_t)> on_prefilled = nullptr);
  // With the sequences elsewhere; borrows the host.
  Generation(const LlamaModel& model, SequenceHost& host, Settings settings);

  Status Add(std::vector<uint32_t> prompt);
  Status Prefill(const OnText& on_text);
  Status Step(const OnText& on_text);
  bool finished() const;

  const std::vector<Stream>& streams() const { return streams_; }
  const Times& times() const { return times_; }
  SequenceHost& host() const { return host_; }
  // Memory held and bytes moved so far.
  MemoryReport Report() const;
  // Layers times positions that Prefill will compute.
  uint64_t prefill_steps() const;

  // Stores and names everything, seals the sequences: they outlive this.
  Status Keep();

 private:
  Status PrefillStream(size_t index, const OnText& on_text);
  // Samples the next token of a stream and shows what can be shown.
  void Accept(size_t index, std::span<const float> logits, const OnText& on_text);
  void Finish(size_t index, FinishReason reason, const OnText& on_text);

  const LlamaModel& model_;
  const std::unique_ptr<SequenceHost> own_host_;  // null: another's
  SequenceHost& host_;
  const Settings settings_;
  std::vector<Stream> streams_;
  std::vector<size_t> shown_;  // bytes of each stream's text already shown
  Times times_;
};

// Bytes at the end of `text` that may be the beginning of a stop string.
size_t HeldBackBytes(const std::string& text, const std::vector<std::string>& stops);

}  // namespace passband
