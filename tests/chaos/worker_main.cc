// A process of the chaos run: a writer, a reader, or the audit at the end.
//
//   chaos_worker --board FD --index I --writers N --seed S --server HOST:PORT ...
//   chaos_worker ... --audit http://HOST:PORT
//   chaos_worker ... --sample http://HOST:PORT
//
// The audit reads every sealed sequence whole, closes everything, and fails when the
// server then still holds memory or sessions of others, or says that it lost a block. The
// sample puts what the server says of its memory on the board.
#include <httplib.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdio>
#include <sstream>

#include "CLI/CLI.hpp"
#include "base/log.h"
#include "tests/chaos/writer.h"

namespace passband::chaos {
namespace {

void Breathe() { ::poll(nullptr, 0, 20); }

void Write(const WorkerOptions& options, BoardMemory& board, uint64_t seed) {
  Client client(options, board);
  Writer writer(options, board, client, seed);
  while (board.stop == 0) {
    Status status;
    if (!client.connected()) {
      status = client.Connect(TenantOf(options.index)) ? writer.TakeOver()
                                                       : Status(StatusCode::kUnavailable, "");
      // What is left must be judged before anything new is made.
      if (!status.ok()) client.Disconnect();
    } else {
      status = writer.Step();
      client.LeaveIfLost(status);
    }
    if (!status.ok() && status.code() != StatusCode::kResourceExhausted) Breathe();
  }
}

void Read(const WorkerOptions& options, BoardMemory& board, uint64_t seed) {
  Client client(options, board);
  Reader reader(options, board, client, seed);
  std::mt19937_64 random(seed + 1);
  uint32_t writer = 0;
  uint64_t left = 0;  // Requests before it goes to another tenant.
  while (board.stop == 0) {
    if (left == 0) client.Disconnect();
    if (!client.connected()) {
      writer = static_cast<uint32_t>(random() % options.writers);
      left = 200 + random() % 2000;
      if (!client.Connect(TenantOf(writer))) Breathe();
      continue;
    }
    --left;
    const Status status = reader.Step(writer);
    client.LeaveIfLost(status);
    if (status.code() == StatusCode::kDeadlineExceeded && random() % 3 == 0) client.Disconnect();
  }
}

// The value of a metric, with its labels, or -1.
double Metric(const std::string& page, const std::string& name) {
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + " ")) return std::stod(line.substr(name.size() + 1));
  }
  return -1;
}

StatusOr<std::string> MetricsPage(const std::string& http) {
  httplib::Client web(http);
  web.set_connection_timeout(2);
  web.set_read_timeout(2);
  const auto page = web.Get("/metrics");
  if (!page) return Error(StatusCode::kUnavailable, "no metrics at {}", http);
  return page->body;
}

Status Sample(BoardMemory& board, const std::string& http) {
  PASSBAND_ASSIGN_OR_RETURN(const std::string page, MetricsPage(http));
  double moved = 0;
  for (const char* name :
       {"passband_evictions_total{reason=\"clean\"}",
        "passband_evictions_total{reason=\"written\"}", "passband_tier_reads_total{tier=\"disk\"}",
        "passband_evicted_blocks_total", "passband_allocation_failures_total"}) {
    moved += std::max(0.0, Metric(page, name));
  }
  board.moved_blocks = static_cast<uint64_t>(moved);
  return OkStatus();
}

// What must be so once everything is closed.
Status CheckEmpty(const std::string& page) {
  const double held =
      Metric(page, "passband_memory_used_bytes") - Metric(page, "passband_memory_cached_bytes");
  if (held != 0) return Error(StatusCode::kFailedPrecondition, "{} bytes are held", held);
  for (const char* name :
       {"passband_sessions", "passband_sequences{state=\"open\"}",
        "passband_sequences{state=\"sealed\"}", "passband_staging_used_bytes",
        "passband_restores_pending", "passband_seals_pending{work=\"seal\"}",
        "passband_seals_pending{work=\"renew\"}", "passband_seals_pending{work=\"erase\"}",
        "passband_lost_blocks_total", "passband_checksum_failures_total",
        "passband_left_out_sequences", "passband_damaged_records"}) {
    const double value = Metric(page, name);
    if (value > 0) return Error(StatusCode::kFailedPrecondition, "{} is {}", name, value);
  }
  return OkStatus();
}

Status AwaitEmpty(const std::string& http) {
  Status empty;
  // The last sessions of killed workers end with their lease.
  const uint64_t deadline = NowNs() + 10'000'000'000u;
  do {
    PASSBAND_ASSIGN_OR_RETURN(const std::string page, MetricsPage(http));
    empty = CheckEmpty(page);
    if (empty.ok()) return empty;
    ::poll(nullptr, 0, 100);
  } while (NowNs() < deadline);
  return Annotate(empty, "with everything closed");
}

Status Audit(const WorkerOptions& options, BoardMemory& board, const std::string& http) {
  for (uint32_t writer = 0; writer < options.writers; ++writer) {
    Client client(options, board);
    Reader reader(options, board, client, options.seed);
    if (!client.Connect(TenantOf(writer))) {
      return Error(StatusCode::kUnavailable, "no server at {}", options.server);
    }
    for (const Slot& slot : board.slots[writer]) {
      const auto view = slot.Look();
      if (!view.has_value() || view->state != SlotState::kSealed) continue;
      if (!options.durable && view->run != board.run) continue;
      PASSBAND_RETURN_IF_ERROR(reader.ReadAll(slot, *view));
      if (view->run != board.run) ++client.record().kept;
    }
    PASSBAND_ASSIGN_OR_RETURN(
        const auto all, client.Control([](RemoteService& s) { return s.List(SequenceId(), 0); }));
    for (const SequenceStat& stat : all) {
      const Status closed = client.Control([&](RemoteService& s) { return s.Close(stat.id); });
      // A session that died a moment ago may close its own.
      if (!closed.ok() && closed.code() != StatusCode::kNotFound) return closed;
    }
  }
  return AwaitEmpty(http);
}

int Main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  WorkerOptions options;
  int fd = -1;
  uint64_t grace_ms = 1500;
  std::string audit, sample;
  CLI::App app("A process of the chaos run");
  app.add_option("--board", fd)->required();
  app.add_option("--index", options.index)->check(CLI::Range(0u, kMaxWorkers - 1))->required();
  app.add_option("--writers", options.writers)->required();
  app.add_option("--seed", options.seed)->required();
  app.add_option("--server", options.server)->required();
  app.add_option("--transports", options.transports)->required();
  app.add_option("--net-devices", options.net_devices);
  app.add_option("--data-plane", options.data_plane)->required();
  app.add_option("--certificates", options.certificates);
  app.add_option("--grace-ms", grace_ms);
  app.add_flag("--durable", options.durable);
  app.add_option("--audit", audit);
  app.add_option("--sample", sample);
  CLI11_PARSE(app, argc, argv);
  options.grace = std::chrono::milliseconds(grace_ms);
  // UCX speaks of every fault; what matters is counted.
  if (!log::Configure("off", "text").ok()) return 2;
  const auto board = Board::Inherit(fd);
  if (!sample.empty()) return Sample(**board, sample).ok() ? 0 : 1;
  if (!audit.empty()) {
    const Status status = Audit(options, **board, audit);
    if (!status.ok()) std::fprintf(stderr, "audit: %s\n", status.ToString().c_str());
    return status.ok() ? 0 : 1;
  }
  // Each life of a worker does something else.
  const uint64_t seed =
      options.seed + options.index + 1000 * (*board)->workers[options.index].connects;
  options.index < options.writers ? Write(options, **board, seed) : Read(options, **board, seed);
  return 0;
}

}  // namespace
}  // namespace passband::chaos

int main(int argc, char** argv) { return passband::chaos::Main(argc, argv); }
