// Client: a worker's connection to the server, with every call timed and counted on the
// board. A call that ends later than it may, by more than the grace, is a hang.
//
// Threads    one at a time.
// Ownership  borrows the board.
// Errors     as sdk/kv_service.h.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "base/status.h"
#include "sdk/remote_service.h"
#include "tests/chaos/board.h"
#include "tests/chaos/tenants.h"

namespace passband::chaos {

struct WorkerOptions {
  uint32_t index = 0;
  uint32_t writers = 0;  // The first so many workers.
  uint64_t seed = 0;
  std::string server;
  std::string transports;
  std::string net_devices;
  std::string data_plane;
  std::string certificates;  // The folder of the run's authority; empty: no TLS.
  std::chrono::milliseconds grace{1500};
  // The server keeps what is sealed through kill -9.
  bool durable = false;
};

// Deadlines are short, so that a run sees many of them pass.
inline constexpr std::chrono::milliseconds kDataTimeout{700};
inline constexpr std::chrono::milliseconds kControlTimeout{700};
inline constexpr std::chrono::milliseconds kConnectTimeout{1000};
inline constexpr std::chrono::milliseconds kRetryBudget{300};
inline constexpr std::chrono::milliseconds kFlushTimeout{2000};
// What a client's destruction may take: it says goodbye and ends transfers.
inline constexpr std::chrono::milliseconds kDisconnectTime{2000};

class Client {
 public:
  Client(const WorkerOptions& options, BoardMemory& board)
      : options_(options), board_(board), record_(board.workers[options.index]) {}
  ~Client() { Disconnect(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Once; false when there is no server to be reached.
  bool Connect(const std::string& tenant);
  void Disconnect();
  bool connected() const { return service_ != nullptr; }

  // Times `call`, which returns a Status or a StatusOr. After an error that ends the
  // session the client is disconnected.
  template <typename Call>
  auto Do(Operation operation, std::chrono::milliseconds allowed, Call&& call) {
    Begin(operation, allowed);
    auto result = call(*service_);
    if constexpr (std::is_same_v<decltype(result), Status>) {
      End(result);
    } else {
      End(result.status());
    }
    return result;
  }
  template <typename Call>
  auto Control(Call&& call) {
    return Do(Operation::kControl, kControlTimeout, std::forward<Call>(call));
  }

  // After a failed call: whether the connection must be given up, which it then is.
  void LeaveIfLost(const Status& status);

  WorkerRecord& record() { return record_; }

 private:
  void Begin(Operation operation, std::chrono::milliseconds allowed);
  void End(const Status& status);

  const WorkerOptions& options_;
  BoardMemory& board_;
  WorkerRecord& record_;
  std::unique_ptr<RemoteService> service_;
};

}  // namespace passband::chaos
