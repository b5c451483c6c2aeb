#include "bench/raw_fetch.h"

#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <span>

#include "kernels/gather.h"
#include "transport/ucx_context.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_worker.h"

namespace passband::bench {
namespace {

using transport::Done;
using transport::IncomingMessage;
using transport::SendMode;
using transport::UcxContext;
using transport::UcxEndpoint;
using transport::UcxMemory;
using transport::UcxWorker;

constexpr uint16_t kRequest = 1;
constexpr uint16_t kReply = 2;
constexpr size_t kStagingBuffers = 16;
constexpr uint32_t kCheckEvery = 10;

// What a real FETCH header is at least.
struct RequestHeader {
  uint64_t id;
  uint64_t reserved[3];
};
static_assert(sizeof(RequestHeader) == 32);

// Zeroed memory on huge pages where the kernel gives them.
class Pages {
 public:
  static StatusOr<std::unique_ptr<Pages>> Map(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      return Error(StatusCode::kResourceExhausted, "cannot map {} bytes", bytes);
    }
    madvise(memory, bytes, MADV_HUGEPAGE);
    return std::unique_ptr<Pages>(new Pages({static_cast<std::byte*>(memory), bytes}));
  }
  ~Pages() { munmap(bytes_.data(), bytes_.size()); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit Pages(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

void PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) {
    std::fprintf(stderr, "cannot pin to core %d; figures will vary more\n", cpu);
  }
}

bool WriteAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

bool ReadAll(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = read(fd, bytes.data(), bytes.size());
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return true;
}

bool WriteFrame(int fd, std::span<const std::byte> bytes) {
  const auto size = static_cast<uint64_t>(bytes.size());
  return WriteAll(fd, std::as_bytes(std::span(&size, 1))) && WriteAll(fd, bytes);
}

StatusOr<std::vector<std::byte>> ReadFrame(int fd) {
  uint64_t size = 0;
  if (!ReadAll(fd, std::as_writable_bytes(std::span(&size, 1)))) {
    return Error(StatusCode::kUnavailable, "the other process ended");
  }
  std::vector<std::byte> bytes(size);
  if (!ReadAll(fd, bytes)) return Error(StatusCode::kUnavailable, "the other process ended");
  return bytes;
}

// The worker of one side, connected to the other's over `socket`.
struct Side {
  std::shared_ptr<UcxContext> context;
  std::shared_ptr<UcxWorker> worker;
  std::unique_ptr<UcxEndpoint> peer;

  Status Open(const std::string& tls) {
    PASSBAND_ASSIGN_OR_RETURN(context, UcxContext::Create({.tls = tls}));
    PASSBAND_ASSIGN_OR_RETURN(worker, UcxWorker::Create(context));
    return OkStatus();
  }

  Status Meet(int socket) {
    if (!WriteFrame(socket, worker->address())) {
      return Error(StatusCode::kUnavailable, "the other process ended");
    }
    PASSBAND_ASSIGN_OR_RETURN(const auto address, ReadFrame(socket));
    PASSBAND_ASSIGN_OR_RETURN(peer, UcxEndpoint::Connect(worker, address, [](Status) {}));
    return OkStatus();
  }
};

class Server {
 public:
  explicit Server(const RawFetchOptions& options) : options_(options) {}

  Status Run(int socket) {
    PASSBAND_RETURN_IF_ERROR(side_.Open(options_.tls));
    PASSBAND_ASSIGN_OR_RETURN(pool_, Pages::Map(options_.pool_bytes));
    PASSBAND_ASSIGN_OR_RETURN(staging_, Pages::Map(kStagingBuffers * ReplyBytes()));
    FillPool();
    PASSBAND_ASSIGN_OR_RETURN(memory_, UcxMemory::Register(side_.context, staging_->bytes()));
    rows_.resize(options_.rows);
    PASSBAND_RETURN_IF_ERROR(
        side_.worker->SetHandler(kRequest, [this](IncomingMessage& message) { Answer(message); }));
    PASSBAND_RETURN_IF_ERROR(side_.Meet(socket));
    pollfd client{socket, POLLIN, 0};
    while (poll(&client, 1, 0) == 0) {
      for (int i = 0; i < 4096; ++i) side_.worker->Progress();
    }
    return OkStatus();
  }

 private:
  size_t ReplyBytes() const { return size_t{options_.rows} * options_.row_bytes; }

  // Each row starts and ends with its own index.
  void FillPool() {
    const uint64_t rows = options_.pool_bytes / options_.row_bytes;
    for (uint64_t row = 0; row < rows; ++row) {
      std::byte* at = pool_->bytes().data() + row * options_.row_bytes;
      std::memcpy(at, &row, sizeof(row));
      std::memcpy(at + options_.row_bytes - sizeof(row), &row, sizeof(row));
    }
  }

  void Answer(IncomingMessage& message) {
    for (size_t i = 0; i < rows_.size(); ++i) {
      uint32_t row = 0;
      std::memcpy(&row, message.data().data() + i * sizeof(row), sizeof(row));
      rows_[i] = pool_->bytes().data() + size_t{row} * options_.row_bytes;
    }
    const auto reply =
        staging_->bytes().subspan((next_++ % kStagingBuffers) * ReplyBytes(), ReplyBytes());
    kernels::GatherRows(rows_, options_.row_bytes, reply.data());
    side_.peer->Send(kReply, message.header(), reply, {.memory = memory_.get()},
                     [](const Status&) {});
  }

  const RawFetchOptions& options_;
  std::unique_ptr<Pages> pool_, staging_;
  std::vector<const std::byte*> rows_;
  size_t next_ = 0;
  Side side_;
  std::unique_ptr<UcxMemory> memory_;
};

class Client {
 public:
  explicit Client(const RawFetchOptions& options) : options_(options), indices_(options.rows) {}

  StatusOr<RawFetchResult> Run(int socket) {
    PASSBAND_RETURN_IF_ERROR(side_.Open(options_.tls));
    PASSBAND_ASSIGN_OR_RETURN(landing_, Pages::Map(size_t{options_.rows} * options_.row_bytes));
    std::memset(landing_->bytes().data(), 0, landing_->bytes().size());
    PASSBAND_ASSIGN_OR_RETURN(memory_, UcxMemory::Register(side_.context, landing_->bytes()));
    PASSBAND_RETURN_IF_ERROR(side_.worker->SetHandler(kReply, [this](IncomingMessage& message) {
      message.Receive(landing_->bytes(), memory_.get(), [this](Status status) {
        received_ = true;
        status_ = std::move(status);
      });
    }));
    PASSBAND_RETURN_IF_ERROR(side_.Meet(socket));
    RawFetchResult result;
    for (uint32_t i = 0; i < options_.warmup + options_.requests; ++i) {
      PASSBAND_ASSIGN_OR_RETURN(const double seconds, FetchOnce());
      if (i % kCheckEvery == 0) PASSBAND_RETURN_IF_ERROR(Check());
      if (i >= options_.warmup) result.seconds.push_back(seconds);
    }
    result.transport = side_.peer->transport_name();
    return result;
  }

 private:
  StatusOr<double> FetchOnce() {
    const auto pool_rows = static_cast<uint32_t>(options_.pool_bytes / options_.row_bytes);
    for (auto& index : indices_) index = static_cast<uint32_t>(random_() % pool_rows);
    received_ = false;
    RequestHeader header{};
    header.id = next_id_++;
    const auto start = std::chrono::steady_clock::now();
    side_.peer->Send(kRequest, std::as_bytes(std::span(&header, 1)),
                     std::as_bytes(std::span(indices_)), {.mode = SendMode::kEager},
                     [](const Status&) {});
    while (!received_ && side_.peer->status().ok()) side_.worker->Progress();
    const auto end = std::chrono::steady_clock::now();
    PASSBAND_RETURN_IF_ERROR(side_.peer->status());
    PASSBAND_RETURN_IF_ERROR(status_);
    return std::chrono::duration<double>(end - start).count();
  }

  Status Check() const {
    for (size_t i = 0; i < indices_.size(); ++i) {
      uint64_t first = 0, last = 0;
      const std::byte* row = landing_->bytes().data() + i * options_.row_bytes;
      std::memcpy(&first, row, sizeof(first));
      std::memcpy(&last, row + options_.row_bytes - sizeof(last), sizeof(last));
      if (first != indices_[i] || last != indices_[i]) {
        return Error(StatusCode::kDataLoss, "row {} is {}/{}, not {}", i, first, last, indices_[i]);
      }
    }
    return OkStatus();
  }

  const RawFetchOptions& options_;
  std::mt19937_64 random_{1};
  std::vector<uint32_t> indices_;
  std::unique_ptr<Pages> landing_;
  uint64_t next_id_ = 1;
  bool received_ = false;
  Status status_;
  Side side_;
  std::unique_ptr<UcxMemory> memory_;
};

// Runs `body` in a pinned child process.
template <typename Body>
pid_t StartChild(int cpu, const Body& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  PinTo(cpu);
  const Status status = body();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  _exit(status.ok() ? 0 : 1);
}

Status SendResult(const StatusOr<RawFetchResult>& result, int fd) {
  PASSBAND_RETURN_IF_ERROR(result.status());
  const bool sent = WriteFrame(fd, std::as_bytes(std::span(result->transport))) &&
                    WriteFrame(fd, std::as_bytes(std::span(result->seconds)));
  return sent ? OkStatus() : Error(StatusCode::kUnavailable, "the measuring process ended");
}

StatusOr<RawFetchResult> ReadResult(int fd) {
  PASSBAND_ASSIGN_OR_RETURN(const auto name, ReadFrame(fd));
  PASSBAND_ASSIGN_OR_RETURN(const auto seconds, ReadFrame(fd));
  RawFetchResult result;
  result.transport.assign(reinterpret_cast<const char*>(name.data()), name.size());
  result.seconds.resize(seconds.size() / sizeof(double));
  std::memcpy(result.seconds.data(), seconds.data(), seconds.size());
  return result;
}

}  // namespace

StatusOr<RawFetchResult> MeasureRawFetch(const RawFetchOptions& options) {
  int sockets[2], results[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0 || pipe(results) != 0) {
    return Error(StatusCode::kResourceExhausted, "no descriptors left");
  }
  const pid_t server = StartChild(options.server_cpu, [&] {
    close(sockets[1]);
    close(results[0]);
    close(results[1]);
    return Server(options).Run(sockets[0]);
  });
  const pid_t client = StartChild(options.client_cpu, [&] {
    close(sockets[0]);
    close(results[0]);
    const Status status = SendResult(Client(options).Run(sockets[1]), results[1]);
    close(sockets[1]);
    return status;
  });
  close(sockets[0]);
  close(sockets[1]);
  close(results[1]);
  auto result = ReadResult(results[0]);
  close(results[0]);
  waitpid(client, nullptr, 0);
  waitpid(server, nullptr, 0);
  return result;
}

}  // namespace passband::bench
