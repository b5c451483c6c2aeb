// SequenceHost: where a generation's sequences live and are attended to: the SDK's engine
// with the model on the CPU (EngineHost), or a GPU (device_host.h).
//
// Handles    the caller's numbers, each opened once.
// Threads    one at a time.
// Ownership  owns the sequences.
// Errors     the engine's; kInvalidArgument for a handle that is not open.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "services/worker/engine_attention.h"
#include "services/worker/memory_report.h"

namespace passband {

class SequenceHost : public AttentionBackend {
 public:
  struct Opened {
    SequenceId id;  // the service's; invalid where the rows are not there
    uint64_t attached = 0;
  };

  // `capacity`: the most tokens it may come to have.
  virtual StatusOr<Opened> Open(uint64_t handle, std::span<const uint32_t> prompt,
                                uint64_t capacity, bool share_prefix) = 0;
  // Waits until every row is in the service.
  virtual Status Flush(uint64_t handle) = 0;
  // Stores everything, names the tokens from `first` on, seals.
  virtual Status Keep(uint64_t handle, uint64_t first, const std::vector<uint32_t>& named) = 0;
  // Counts a sequence's memory; `attended` tokens have rows.
  virtual void AddMemory(uint64_t handle, uint64_t attended, MemoryReport& report) const = 0;

  virtual EngineStats stats() const = 0;
  virtual void ResetStats() = 0;
  virtual const ModelInfo& model() const = 0;
  // What carries the rows, for people.
  virtual std::string transport() const = 0;
  virtual uint64_t peak_layer_bytes() const = 0;
};

class EngineHost final : public SequenceHost {
 public:
  // Borrows both.
  EngineHost(Engine& engine, WorkerPool& pool, EngineAttention::Options options)
      : engine_(engine), attention_(engine, pool, std::move(options)) {}

  StatusOr<Opened> Open(uint64_t handle, std::span<const uint32_t> prompt, uint64_t capacity,
                        bool share_prefix) override;
  Status Flush(uint64_t handle) override { return engine_.Flush(*sequences_.at(handle)); }
  Status Keep(uint64_t handle, uint64_t first, const std::vector<uint32_t>& named) override;
  void AddMemory(uint64_t handle, uint64_t attended, MemoryReport& report) const override;
  Status Attend(const AttendArgs& args) override { return attention_.Attend(args); }

  EngineStats stats() const override { return engine_.stats(); }
  void ResetStats() override { engine_.ResetStats(); }
  const ModelInfo& model() const override { return engine_.model(); }
  std::string transport() const override { return engine_.service().transport(); }
  uint64_t peak_layer_bytes() const override { return attention_.peak_layer_bytes(); }

 private:
  Engine& engine_;
  EngineAttention attention_;
  std::map<uint64_t, std::unique_ptr<WorkerSequence>> sequences_;
};

}  // namespace passband
