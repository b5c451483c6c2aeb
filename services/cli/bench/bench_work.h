// BenchWork: what one worker of `passband bench` does: it connects, fills its sequences, and then
// makes one operation after the other, each of which it times.
//
// Units      seconds, bytes, tokens.
// Threads    one at a time.
// Ownership  owns its session and its sequences; Close() and the destructor end them.
// Errors     the service's; kDataLoss when a byte is wrong.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "sdk/remote_service.h"
#include "services/cli/latency_histogram.h"
#include "services/cli/synthetic_rows.h"

namespace passband::bench {

enum class What : uint8_t { kFetch, kAppend, kAttach };

struct Plan {
  What what = What::kFetch;
  ModelInfo model;
  uint64_t tokens = 4096;  // of each sequence; whole blocks
  uint32_t batch = 1;      // sequences of a worker, all of which an operation is about
  uint32_t rows = 512;     // of one fetch
  bool verify = false;
  RemoteOptions remote;

  uint64_t bytes_per_worker() const { return batch * tokens * model.token_bytes(); }
};

// What was done in a time.
struct Done {
  LatencyHistogram latency;
  uint64_t rows = 0;   // fetched or appended; tokens of all heads for attaches
  uint64_t bytes = 0;  // of rows, or of slices
  uint64_t verified_bytes = 0;
  double seconds = 0;

  void Add(const Done& other);
};

class BenchWork {
 public:
  // Goes on while it is true.
  using GoOn = std::function<bool()>;

  static StatusOr<std::unique_ptr<BenchWork>> Connect(const Plan& plan, uint64_t salt);
  virtual ~BenchWork() = default;
  BenchWork(const BenchWork&) = delete;
  BenchWork& operator=(const BenchWork&) = delete;

  // Opens the sequences, and fills them where the operation needs rows to be there. `filled`
  // counts bytes.
  Status Prepare(const GoOn& go_on, std::atomic<uint64_t>& filled);
  // Operations one after the other while `go_on`; only whole ones count.
  Status Run(const GoOn& go_on, Done& done);
  // Ends what it opened.
  Status Close();
  std::string transport() const { return service_->transport(); }

 protected:
  struct Sequence {
    SequenceId id;
    SyntheticRows rows;
    std::vector<uint32_t> token_ids;  // empty: nobody can find it
    uint64_t stored = 0;              // tokens
  };

  BenchWork(const Plan& plan, uint64_t salt) : plan_(plan), salt_(salt) {}
  // Whether sequences are filled, and can be found by their tokens.
  virtual bool wants_rows() const { return true; }
  virtual bool wants_token_ids() const { return false; }
  // Before operations are timed.
  virtual Status Begin() { return OkStatus(); }
  // Times the operation itself; checks are not part of it.
  virtual StatusOr<double> Operate(Done& done) = 0;

  Status Append(Sequence& sequence, uint64_t count);
  StatusOr<SequenceId> Open(const std::vector<uint32_t>& token_ids, uint64_t* matched);

  const Plan& plan_;
  const uint64_t salt_;
  std::unique_ptr<RemoteService> service_;
  std::vector<Sequence> sequences_;
  std::vector<SequenceId> more_;  // others that are open
  std::vector<std::byte> scratch_;
};

}  // namespace passband::bench
