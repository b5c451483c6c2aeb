// ServerList: the addresses of the servers that a client may use: given, or the addresses that
// a name has, looked up again from time to time.
//
//   host:port            one server; of a name with several IPv4 addresses, one for each
//   dns:///host:port     one server for each address of the name, however many it has
//   a:1,b:1              several of those
//
// Of a name IPv4 addresses are taken where it has any, otherwise IPv6 ones: a server is not to
// be found twice.
//
// Threads    safe; the callback runs on the list's thread, and not after its destruction.
// Ownership  owns its thread.
// Errors     kInvalidArgument: a text that names no server; kUnavailable: no name has an
//            address. Later a name that cannot be looked up keeps the addresses it had.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband {

// One word of what was given.
struct ServerName {
  std::string host;
  std::string port;
  bool dns = false;  // dns:///

  bool is_address() const;  // a literal one, IPv4 or IPv6
  std::string text() const;
};

// kInvalidArgument names the word and shows an example. Words given twice count once.
StatusOr<std::vector<ServerName>> ParseServerNames(const std::string& list);

struct ServerAddress {
  std::string address;  // host:port
  std::string name;     // the host that it was looked up by; empty: it is in the address

  auto operator<=>(const ServerAddress&) const = default;
};

// Addresses without ports; IPv6 ones without brackets.
struct ResolvedHost {
  std::vector<std::string> ipv4;
  std::vector<std::string> ipv6;
};
using Resolver = std::function<StatusOr<ResolvedHost>(const std::string& host)>;

// The system's: hosts file, then DNS, a second for each question. kUnavailable names the host.
Resolver SystemResolver();

class ServerList {
 public:
  struct Options {
    std::vector<ServerName> names;
    std::chrono::milliseconds refresh{30'000};
    // The first look-up may take so long.
    std::chrono::milliseconds patience{5000};
    Resolver resolver;  // none: the system's
  };
  // In order, each once.
  using OnChange = std::function<void(const std::vector<ServerAddress>&)>;

  static StatusOr<std::unique_ptr<ServerList>> Create(Options options);
  ~ServerList();
  ServerList(const ServerList&) = delete;
  ServerList& operator=(const ServerList&) = delete;

  // What was found last.
  std::vector<ServerAddress> addresses() const;
  // Calls back from now on when they change; once.
  void Watch(OnChange on_change);
  // Looks names up soon: a server does not answer. No more than once a second.
  void RefreshSoon();

 private:
  struct Impl;
  explicit ServerList(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
