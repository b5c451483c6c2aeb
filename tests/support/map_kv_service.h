// MapKvService: a KvService over plain maps, for tests of what sits above one.
//
// It is as strict as a service may be: appended rows can only be fetched, read
// or cut once Flush was called, appends must follow each other within blocks,
// and any call can be made to fail.
//
// Threads  one at a time.
// Errors   as kv_service.h names them, and what `fault` says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sdk/kv_service.h"

namespace passband {

class MapKvService final : public KvService {
 public:
  // Asked at every call, with its name; an error makes the call fail. For the
  // Start calls the failure shows in Wait().
  std::function<Status(const std::string& call)> fault;
  // Calls by name, failed ones included.
  std::map<std::string, uint64_t> calls;
  SelectionReport reported;

  Status RegisterModel(const ModelInfo& model) override;
  StatusOr<OpenedSequence> Open(const OpenParams& params) override;
  StatusOr<SequenceId> Fork(SequenceId sequence, uint64_t tokens) override;
  Status Extend(SequenceId sequence, uint64_t first, std::span<const uint32_t> token_ids) override;
  Status Truncate(SequenceId sequence, uint64_t tokens) override;
  Status Seal(SequenceId sequence) override;
  Status Pin(SequenceId sequence, std::chrono::milliseconds time) override;
  Status Unpin(SequenceId sequence) override;
  Status Close(SequenceId sequence) override;
  StatusOr<SequenceStat> Stat(SequenceId sequence) override;
  StatusOr<std::vector<SequenceStat>> List(SequenceId after, uint32_t limit) override;
  StatusOr<uint64_t> Lookup(const std::string& model, std::span<const uint32_t> token_ids) override;
  std::unique_ptr<PendingRows> StartFetch(const FetchRequest& request) override;
  std::unique_ptr<PendingRows> StartRead(const RangeRequest& request) override;
  std::unique_ptr<PendingRows> StartSlices(const RangeRequest& request,
                                           const std::shared_ptr<const Profile>& profile) override;
  Status Append(const AppendRequest& request) override;
  Status Flush(SequenceId sequence) override;
  void Report(const SelectionReport& report) override;
  TrafficStats traffic() const override { return {}; }
  std::string transport() const override { return "map"; }

  size_t open_sequences() const { return sequences_.size(); }

 private:
  using Row = std::vector<std::byte>;
  struct Layer {
    uint64_t stored = 0;
    std::vector<std::vector<Row>> heads;  // [kv_head][token]
    uint64_t length() const { return heads[0].size(); }
  };
  struct Sequence {
    std::vector<uint32_t> token_ids;
    std::vector<Layer> layers;
    bool sealed = false;
  };

  Status Enter(const std::string& call);
  StatusOr<Sequence*> Find(SequenceId id);
  StatusOr<const Row*> FindRow(SequenceId id, uint32_t layer, uint32_t kv_head, uint64_t token);
  StatusOr<Row> Gather(const FetchRequest& request);
  StatusOr<Row> Read(const RangeRequest& request, const Profile* profile);
  uint64_t Match(std::span<const uint32_t> token_ids, Sequence** best);

  ModelInfo model_;
  uint64_t next_id_ = 1;
  std::map<SequenceId, Sequence> sequences_;
};

}  // namespace passband
