// TlsWatch: the gRPC port's certificate, key and authority, read again while the server runs.
//
// New files are taken only as a whole, and only when a start would take them (base/tls_files.h):
// until then those before them serve on, and the log says once what is wrong. They are to be
// replaced together, as by a rename of a link to their folder.
//
// Threads  safe; its own thread looks.
// Errors   of Start: those of the files.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "base/mutex.h"
#include "base/status.h"
#include "base/tls_files.h"

namespace passband::server {

class TlsWatch {
 public:
  static constexpr std::chrono::seconds kInterval{2};

  struct Stats {
    bool healthy = true;  // false: the files there now cannot be used
    uint64_t taken = 0;   // changes since the start
    uint64_t refused = 0;
    double valid_from_seconds = 0;  // of the certificate in use, since the epoch
    double valid_until_seconds = 0;
  };

  static StatusOr<std::unique_ptr<TlsWatch>> Start(const TlsFiles& files);
  TlsWatch(const TlsWatch&) = delete;
  TlsWatch& operator=(const TlsWatch&) = delete;

  bool client_certificates() const { return !files_.ca.empty(); }
  // Another object once others are taken.
  std::shared_ptr<const TlsTexts> texts() const;
  Stats stats() const;

  // Looks now, on the caller's thread.
  void Look();

 private:
  TlsWatch(TlsFiles files, TlsTexts texts);
  void Run(const std::stop_token& stop);
  void Take(TlsTexts texts) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TlsFiles files_;
  mutable Mutex mutex_;
  std::condition_variable_any wakes_;
  std::shared_ptr<const TlsTexts> texts_ ABSL_GUARDED_BY(mutex_);
  std::string fault_ ABSL_GUARDED_BY(mutex_);  // as it was logged; empty: none
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
  std::jthread thread_;  // last: it uses the rest
};

}  // namespace passband::server
