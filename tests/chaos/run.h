// Run: one chaos run: a server, its workers, and what is done to them.
//
// Units      seconds where not said.
// Threads    one at a time.
// Ownership  the destructor ends every process.
// Errors     of setting up. What the service does wrong is counted, and printed at once.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/chaos/faults.h"
#include "tests/chaos/stage.h"
#include "tests/chaos/workers.h"
#include "tests/support/server_process.h"

namespace passband::chaos {

struct RunOptions {
  std::chrono::milliseconds length{45'000};
  uint64_t seed = 0;
  uint32_t writers = 3;
  uint32_t readers = 3;
  std::chrono::milliseconds grace{1500};
  std::chrono::milliseconds longest_fault{2500};
  std::string ram = "32MiB";
  uint32_t data_threads = 3;
  bool tls = true;
  uint64_t disk_bytes = uint64_t{768} << 20;
  uint64_t min_rows = 1'000'000;
  std::string server_binary;
  std::string worker_binary;
};

// What must not happen, beside what the workers count on the board.
struct Defects {
  uint64_t stuck = 0;        // Workers whose call did not end at all.
  uint64_t unrecovered = 0;  // Faults after which not every worker was served again.
  uint64_t dead_workers = 0;
  uint64_t dead_servers = 0;
  bool leaks = false;  // Or anything else that the audit dislikes.
};

class Run {
 public:
  static StatusOr<std::unique_ptr<Run>> Start(const RunOptions& options);
  ~Run();

  // Until the time is over; then lets everybody finish and audits the server.
  Status Execute();

  BoardMemory& board() { return **board_; }
  uint32_t worker_count() const { return options_.writers + options_.readers; }
  const Defects& defects() const { return defects_; }
  const std::array<FaultTally, kFaultKinds>& tallies() const { return tallies_; }
  // Which faults there are, and why not the others.
  const Stage& stage() const { return *stage_; }
  // What the bad cable did.
  test::BadCable::Counts packets() const;
  double seconds() const { return static_cast<double>(NowNs() - started_ns_) * 1e-9; }

 private:
  explicit Run(const RunOptions& options) : options_(options) {}
  Status SetUp();
  std::vector<std::string> ServerFlags() const;
  Workers::Options WorkerOptions() const;
  Status StartServer();
  Status KillServer(std::chrono::milliseconds down);
  bool AllInjected() const;
  // One fault, from its beginning until everybody is served again.
  Status Try(const Fault& fault);
  // Sets `seen` when the fault was there.
  Status Inject(const Fault& fault, bool& seen);
  Status PauseServer(const Fault& fault, bool& seen);
  Status PauseWorker(const Fault& fault, bool& seen);
  Status Partition(const Fault& fault, bool& seen);
  Status UseBadCable(const Fault& fault, bool& seen);
  Status FillDisk(const Fault& fault, bool& seen);
  Status Press(const Fault& fault, bool& seen);
  Status Finish();
  StatusOr<uint64_t> MovedBlocks();
  uint64_t FailedRequests();
  std::string http() const;
  Status Pass(std::chrono::milliseconds time);
  Status Tick();
  Status AwaitRecovery(FaultKind kind);
  void AwaitAppend(uint32_t worker);
  Status CheckServer();
  Status CheckStuck();
  void ShowProgress();

  const RunOptions options_;
  std::unique_ptr<Board> board_;
  std::unique_ptr<Stage> stage_;
  test::ServerProcess::Options server_options_;
  std::unique_ptr<test::ServerProcess> server_;
  std::unique_ptr<Workers> workers_;
  std::optional<uint32_t> paused_worker_;
  std::array<FaultTally, kFaultKinds> tallies_;
  Defects defects_;
  uint64_t started_ns_ = 0;
  uint64_t shown_ns_ = 0;
};

}  // namespace passband::chaos
