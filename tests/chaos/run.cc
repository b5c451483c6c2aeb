#include "tests/chaos/run.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"

namespace passband::chaos {
namespace {

using std::chrono::milliseconds;
using test::Network;

constexpr auto kTick = milliseconds(20);
constexpr auto kMostToRecover = std::chrono::seconds(15);
constexpr auto kMostToEnd = milliseconds(8000);
constexpr auto kMostToSeeAll = std::chrono::seconds(60);
constexpr auto kAuditTime = std::chrono::seconds(60);
constexpr auto kMostToAppend = milliseconds(300);

// What a tired cable does, and one on which a connection hardly gets anything across.
constexpr test::BadCable::Faults kBadCable{
    .lost = .01, .late = .05, .twice = .01, .late_by = std::chrono::milliseconds(10)};
constexpr test::BadCable::Faults kWorseCable{
    .lost = .1, .late = .2, .twice = .05, .late_by = std::chrono::milliseconds(60)};

uint64_t Ns(std::chrono::nanoseconds time) { return static_cast<uint64_t>(time.count()); }

}  // namespace

StatusOr<std::unique_ptr<Run>> Run::Start(const RunOptions& options) {
  std::unique_ptr<Run> out(new Run(options));
  PASSBAND_RETURN_IF_ERROR(out->SetUp());
  return out;
}

Run::~Run() = default;

Status Run::SetUp() {
  board_ = Board::Create();
  stage_ = std::make_unique<Stage>(Stage::Options{.seed = options_.seed,
                                                  .disk_bytes = options_.disk_bytes,
                                                  .tls = options_.tls,
                                                  .tenants = options_.writers});
  server_options_.binary = options_.server_binary;
  server_options_.flags = ServerFlags();
  stage_->PlaceServer(server_options_);
  PASSBAND_RETURN_IF_ERROR(StartServer());
  // Whoever comes back comes back at the same ports.
  server_options_.control_port = server_->control_port();
  server_options_.data_port = server_->data_port();
  server_options_.http_port = server_->http_port();
  workers_ = std::make_unique<Workers>(WorkerOptions(), *board_);
  return workers_->StartAll();
}

std::vector<std::string> Run::ServerFlags() const {
  return {"--ram",        options_.ram, "--staging",      "16MiB",
          "--lease",      "1500ms",     "--log-level",    "error",
          "--data-plane", "both",       "--data-threads", std::to_string(options_.data_threads)};
}

Workers::Options Run::WorkerOptions() const {
  return {.binary = options_.worker_binary,
          .kinds = stage_->PlaceWorkers(),
          .flags = {"--writers", std::to_string(options_.writers), "--seed",
                    std::to_string(options_.seed), "--server", server_->control_address(),
                    "--grace-ms", std::to_string(options_.grace.count()), "--durable"},
          .count = worker_count()};
}

std::string Run::http() const {
  return fmt::format("http://{}:{}", server_options_.host, server_->http_port());
}

// The run's number is on the board before anybody can reach the server.
Status Run::StartServer() {
  board().run = (board().run + 2) & ~uint64_t{1};
  server_.reset();
  PASSBAND_ASSIGN_OR_RETURN(server_, test::ServerProcess::Start(server_options_));
  return OkStatus();
}

Status Run::KillServer(milliseconds down) {
  ++board().run;
  ++board().restarts;
  server_->Kill();
  PASSBAND_RETURN_IF_ERROR(Pass(down));
  return StartServer();
}

bool Run::AllInjected() const {
  return std::all_of(stage_->kinds().begin(), stage_->kinds().end(), [this](FaultKind kind) {
    return tallies_[static_cast<size_t>(kind)].injected > 0;
  });
}

Status Run::Execute() {
  started_ns_ = NowNs();
  FaultSchedule schedule(options_.seed, stage_->kinds(), worker_count(), options_.longest_fault);
  const uint64_t end = started_ns_ + Ns(options_.length);
  PASSBAND_RETURN_IF_ERROR(Pass(milliseconds(1000)));
  // A short run goes on until it has had every fault once.
  const uint64_t latest = end + Ns(kMostToSeeAll);
  while (NowNs() < end || (!AllInjected() && NowNs() < latest)) {
    const Fault fault = schedule.Next();
    PASSBAND_RETURN_IF_ERROR(Try(fault));
    PASSBAND_RETURN_IF_ERROR(Pass(fault.rest));
  }
  return Finish();
}

// Whatever was sealed must be there after one more crash.
Status Run::Finish() {
  board().stop = 1;
  if (!workers_->AwaitEnd(kMostToEnd + options_.grace)) ++defects_.stuck;
  PASSBAND_RETURN_IF_ERROR(CheckServer());
  ++board().run;
  server_->Kill();
  PASSBAND_RETURN_IF_ERROR(StartServer());
  PASSBAND_ASSIGN_OR_RETURN(const bool content, workers_->RunOne({"--audit", http()}, kAuditTime));
  defects_.leaks = !content;
  return CheckServer();
}

Status Run::Try(const Fault& fault) {
  std::fprintf(stderr, "%7.1f s  %s", seconds(), Name(fault.kind));
  if (fault.kind == FaultKind::kPauseWorker || fault.kind == FaultKind::kKillWorker) {
    std::fprintf(stderr, " %u", fault.worker);
  }
  std::fprintf(stderr, ", %ld ms\n", static_cast<long>(fault.lasts.count()));
  const uint64_t failed = FailedRequests();
  bool seen = false;
  PASSBAND_RETURN_IF_ERROR(Inject(fault, seen));
  PASSBAND_RETURN_IF_ERROR(AwaitRecovery(fault.kind));
  FaultTally& tally = tallies_[static_cast<size_t>(fault.kind)];
  if (seen) ++tally.injected;
  tally.failed_requests += FailedRequests() - failed;
  return OkStatus();
}

Status Run::Inject(const Fault& fault, bool& seen) {
  switch (fault.kind) {
    case FaultKind::kKillServer:
      seen = true;
      return KillServer(fault.lasts);
    case FaultKind::kPauseServer:
      return PauseServer(fault, seen);
    case FaultKind::kPauseWorker:
      return PauseWorker(fault, seen);
    case FaultKind::kKillWorker:
      seen = true;
      AwaitAppend(fault.worker);
      return workers_->Replace(fault.worker);
    case FaultKind::kPartition:
      return Partition(fault, seen);
    case FaultKind::kBadCable:
      return UseBadCable(fault, seen);
    case FaultKind::kFullDisk:
      return FillDisk(fault, seen);
    case FaultKind::kPressure:
      return Press(fault, seen);
    case FaultKind::kCount:
      break;
  }
  return OkStatus();
}

Status Run::PauseServer(const Fault& fault, bool& seen) {
  seen = server_->Pause();
  PASSBAND_RETURN_IF_ERROR(Pass(fault.lasts));
  server_->Resume();
  return OkStatus();
}

Status Run::PauseWorker(const Fault& fault, bool& seen) {
  seen = workers_->Pause(fault.worker);
  paused_worker_ = fault.worker;
  const Status passed = Pass(fault.lasts);
  workers_->Resume(fault.worker);
  paused_worker_.reset();
  return passed;
}

Status Run::Partition(const Fault& fault, bool& seen) {
  const auto end = fault.coin ? Network::End::kServer : Network::End::kWorker;
  PASSBAND_RETURN_IF_ERROR(stage_->network()->Pull(end));
  seen = true;
  PASSBAND_RETURN_IF_ERROR(Pass(fault.lasts));
  return stage_->network()->Plug(end);
}

Status Run::UseBadCable(const Fault& fault, bool& seen) {
  const test::BadCable::Counts before = packets();
  PASSBAND_RETURN_IF_ERROR(stage_->bad_cable()->Use(fault.coin ? kBadCable : kWorseCable));
  PASSBAND_RETURN_IF_ERROR(Pass(fault.lasts));
  const test::BadCable::Counts after = packets();
  seen = after.lost > before.lost && after.late > before.late &&
         after.overtaken > before.overtaken && after.twice > before.twice;
  return stage_->bad_cable()->Leave();
}

test::BadCable::Counts Run::packets() const {
  return stage_->bad_cable() == nullptr ? test::BadCable::Counts() : stage_->bad_cable()->counts();
}

Status Run::FillDisk(const Fault& fault, bool& seen) {
  const Status full = stage_->disk()->Fill();
  seen = full.ok();
  if (!seen) std::fprintf(stderr, "%s\n", full.ToString().c_str());
  board().pressure = 1;
  PASSBAND_RETURN_IF_ERROR(Pass(fault.lasts));
  board().pressure = 0;
  PASSBAND_RETURN_IF_ERROR(stage_->disk()->Free());
  return fault.coin ? KillServer(milliseconds(0)) : OkStatus();
}

Status Run::Press(const Fault& fault, bool& seen) {
  PASSBAND_ASSIGN_OR_RETURN(const uint64_t before, MovedBlocks());
  board().pressure = 1;
  PASSBAND_RETURN_IF_ERROR(Pass(fault.lasts));
  PASSBAND_ASSIGN_OR_RETURN(const uint64_t after, MovedBlocks());
  board().pressure = 0;
  seen = after > before;
  return OkStatus();
}

StatusOr<uint64_t> Run::MovedBlocks() {
  PASSBAND_ASSIGN_OR_RETURN(const bool sampled, workers_->RunOne({"--sample", http()}, kAuditTime));
  if (!sampled) std::fprintf(stderr, "the server tells no metrics\n");
  return board().moved_blocks.load();
}

uint64_t Run::FailedRequests() {
  uint64_t out = 0;
  for (uint32_t i = 0; i < worker_count(); ++i) {
    for (size_t code = 1; code < kCodes; ++code) {
      // What is rightly refused is no fault's doing.
      if (code == static_cast<size_t>(StatusCode::kNotFound) ||
          code == static_cast<size_t>(StatusCode::kOutOfRange)) {
        continue;
      }
      out += board().workers[i].codes[code];
    }
  }
  return out;
}

// A worker should die in the middle of an append, if it makes one soon.
void Run::AwaitAppend(uint32_t worker) {
  const uint64_t deadline = NowNs() + Ns(kMostToAppend);
  const WorkerRecord& record = board().workers[worker];
  while (worker < options_.writers && NowNs() < deadline) {
    if (record.operation == static_cast<uint32_t>(Operation::kAppend)) break;
  }
}

Status Run::AwaitRecovery(FaultKind kind) {
  const uint64_t healed = NowNs();
  uint64_t last = 0;
  while (true) {
    bool all = true;
    for (uint32_t i = 0; i < worker_count(); ++i) {
      const uint64_t served = board().workers[i].served_ns;
      all = all && served > healed;
      last = std::max(last, served);
    }
    if (all) break;
    if (NowNs() > healed + Ns(kMostToRecover)) {
      ++defects_.unrecovered;
      for (uint32_t i = 0; i < worker_count(); ++i) {
        if (board().workers[i].served_ns > healed) continue;
        std::fprintf(stderr, "worker %u was not served within %ld s of the end of '%s'\n", i,
                     static_cast<long>(kMostToRecover.count()), Name(kind));
      }
      return OkStatus();
    }
    PASSBAND_RETURN_IF_ERROR(Pass(milliseconds(5)));
  }
  tallies_[static_cast<size_t>(kind)].recovery_seconds.push_back(
      static_cast<double>(NowNs() - healed) * 1e-9);
  return OkStatus();
}

Status Run::Pass(milliseconds time) {
  const uint64_t end = NowNs() + Ns(time);
  while (true) {
    PASSBAND_RETURN_IF_ERROR(Tick());
    const uint64_t now = NowNs();
    if (now >= end) return OkStatus();
    const auto left = static_cast<int>((end - now) / 1'000'000);
    ::poll(nullptr, 0, std::clamp(left, 1, static_cast<int>(kTick.count())));
  }
}

Status Run::Tick() {
  PASSBAND_ASSIGN_OR_RETURN(const uint32_t dead, workers_->ReplaceDead());
  defects_.dead_workers += dead;
  PASSBAND_RETURN_IF_ERROR(CheckStuck());
  PASSBAND_RETURN_IF_ERROR(CheckServer());
  ShowProgress();
  return OkStatus();
}

Status Run::CheckServer() {
  if (server_->pid() <= 0) return OkStatus();  // We ended it.
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(server_->pid()), &info, WEXITED | WNOHANG | WNOWAIT);
  if (info.si_pid == 0) return OkStatus();
  ++defects_.dead_servers;
  std::fprintf(stderr, "THE SERVER ENDED by itself (%s %d); its log:\n%s\n",
               info.si_code == CLD_EXITED ? "status" : "signal", info.si_status,
               server_->Log().c_str());
  ++board().run;
  ++board().restarts;
  return StartServer();
}

// The worker itself says so when a call ends late; this is for those that do not end.
Status Run::CheckStuck() {
  for (uint32_t i = 0; i < worker_count(); ++i) {
    if (paused_worker_ == i) continue;
    const WorkerRecord& record = board().workers[i];
    const uint64_t begun = record.begun_ns;
    const uint64_t now = NowNs();
    if (begun == 0 || now < begun) continue;
    const uint64_t stopped = record.stopped_ns - record.stopped_before_ns;
    const uint64_t most = record.allowed_ns + 2 * Ns(options_.grace) + Ns(milliseconds(2000));
    if (now - begun < most + stopped) continue;
    ++defects_.stuck;
    std::fprintf(stderr, "worker %u HANGS in %s for %.1f s\n", i,
                 Name(static_cast<Operation>(record.operation.load())),
                 static_cast<double>(now - begun) * 1e-9);
    PASSBAND_RETURN_IF_ERROR(workers_->Replace(i));
  }
  return OkStatus();
}

void Run::ShowProgress() {
  const uint64_t every = ::isatty(STDERR_FILENO) != 0 ? 1'000'000'000u : 5'000'000'000u;
  if (NowNs() - shown_ns_ < every) return;
  shown_ns_ = NowNs();
  uint64_t requests = 0, rows = 0, wrong = 0, hangs = defects_.stuck;
  for (uint32_t i = 0; i < worker_count(); ++i) {
    const WorkerRecord& worker = board().workers[i];
    requests += worker.requests;
    rows += worker.fetched_rows + worker.read_rows;
    wrong += worker.wrong;
    hangs += worker.hangs;
  }
  std::fprintf(stderr, "%7.1f s  %s requests, %s rows verified, %lu wrong, %lu hangs\n", seconds(),
               FormatCount(requests).c_str(), FormatCount(rows).c_str(),
               static_cast<unsigned long>(wrong), static_cast<unsigned long>(hangs));
}

}  // namespace passband::chaos
