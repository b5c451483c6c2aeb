#include "sdk/cluster/server_list.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <sstream>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/thread.h"
#include "base/units.h"

namespace passband {
namespace {

constexpr char kScheme[] = "dns:///";
constexpr auto kNotSooner = std::chrono::seconds(1);

Status BadServer(const std::string& word, const char* what) {
  return Error(StatusCode::kInvalidArgument,
               "server '{}': {}; write host:port, several with commas, or dns:///name:port, as in "
               "127.0.0.1:50061 or dns:///passband.passband.svc:50061",
               word, what);
}

std::string HostPort(const std::string& host, const std::string& port) {
  return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

bool IsLiteral(int family, const std::string& host) {
  in6_addr address;
  return ::inet_pton(family, host.c_str(), &address) == 1;
}

StatusOr<ServerName> ParseServerName(const std::string& word) {
  ServerName out;
  std::string rest = word;
  if (rest.rfind(kScheme, 0) == 0) {
    out.dns = true;
    rest.erase(0, sizeof(kScheme) - 1);
  } else if (rest.find("//") != std::string::npos) {
    return BadServer(word, "no such kind of address");
  }
  const size_t colon = rest.rfind(':');
  if (colon == std::string::npos) return BadServer(word, "it has no port");
  out.port = rest.substr(colon + 1);
  const auto port = ParseCount(out.port);
  if (!port.has_value() || *port == 0 || *port > 65535) return BadServer(word, "no such port");
  out.port = std::to_string(*port);
  out.host = rest.substr(0, colon);
  if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
    if (!IsLiteral(AF_INET6, out.host)) return BadServer(word, "no IPv6 address is in brackets");
  } else if (out.host.find_first_of(":[] \t/") != std::string::npos) {
    return BadServer(word, "no such host (an IPv6 address stands in brackets)");
  }
  if (out.host.empty()) return BadServer(word, "it has no host");
  return out;
}

// What a name stands for now.
StatusOr<std::vector<ServerAddress>> Expand(const ServerName& name, const Resolver& resolver) {
  const std::string itself = HostPort(name.host, name.port);
  if (name.is_address()) return std::vector<ServerAddress>{{itself, ""}};
  PASSBAND_ASSIGN_OR_RETURN(const ResolvedHost found, resolver(name.host));
  const auto& addresses = found.ipv4.empty() ? found.ipv6 : found.ipv4;
  if (!name.dns && found.ipv4.size() <= 1) return std::vector<ServerAddress>{{itself, ""}};
  if (addresses.empty()) {
    return Error(StatusCode::kUnavailable, "the name {} has no address", name.host);
  }
  std::vector<ServerAddress> out;
  out.reserve(addresses.size());
  for (const std::string& address : addresses) {
    out.push_back({HostPort(address, name.port), name.host});
  }
  return out;
}

}  // namespace

bool ServerName::is_address() const {
  return IsLiteral(AF_INET, host) || IsLiteral(AF_INET6, host);
}

std::string ServerName::text() const { return (dns ? kScheme : "") + HostPort(host, port); }

StatusOr<std::vector<ServerName>> ParseServerNames(const std::string& list) {
  std::vector<ServerName> out;
  std::istringstream in(list);
  for (std::string word; std::getline(in, word, ',');) {
    word.erase(0, word.find_first_not_of(" \t"));
    word.erase(word.find_last_not_of(" \t") + 1);
    if (word.empty()) continue;
    PASSBAND_ASSIGN_OR_RETURN(ServerName name, ParseServerName(word));
    const bool known = std::any_of(out.begin(), out.end(), [&](const ServerName& other) {
      return other.text() == name.text();
    });
    if (!known) out.push_back(std::move(name));
  }
  if (out.empty()) return BadServer(list, "it names none");
  return out;
}

Resolver SystemResolver() {
  return [](const std::string& host) -> StatusOr<ResolvedHost> {
    // The resolver's state is each thread's own: ours need not wait as long as others'.
    ::res_init();
    _res.retrans = 1;
    _res.retry = 1;
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failed = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (failed != 0) {
      return Error(StatusCode::kUnavailable, "the name {} cannot be looked up: {}", host,
                   ::gai_strerror(failed));
    }
    ResolvedHost out;
    for (const addrinfo* next = found; next != nullptr; next = next->ai_next) {
      std::array<char, INET6_ADDRSTRLEN> text{};
      const bool v4 = next->ai_family == AF_INET;
      if (!v4 && next->ai_family != AF_INET6) continue;
      const void* address =
          v4 ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(next->ai_addr)->sin_addr)
             : &reinterpret_cast<sockaddr_in6*>(next->ai_addr)->sin6_addr;
      ::inet_ntop(next->ai_family, address, text.data(), text.size());
      (v4 ? out.ipv4 : out.ipv6).emplace_back(text.data());
    }
    ::freeaddrinfo(found);
    return out;
  };
}

struct ServerList::Impl {
  Options options;

  Mutex mutex;
  std::condition_variable_any changed;
  std::map<std::string, std::vector<ServerAddress>> by_name ABSL_GUARDED_BY(mutex);
  std::vector<ServerAddress> addresses ABSL_GUARDED_BY(mutex);
  Status last ABSL_GUARDED_BY(mutex) = Error(StatusCode::kUnavailable, "not looked up yet");
  bool looked_up ABSL_GUARDED_BY(mutex) = false;
  bool soon ABSL_GUARDED_BY(mutex) = false;
  OnChange on_change ABSL_GUARDED_BY(mutex);
  std::jthread thread;  // Last: it uses everything above.

  bool fixed() const {
    return std::all_of(options.names.begin(), options.names.end(),
                       [](const ServerName& name) { return name.is_address(); });
  }
  void Run(const std::stop_token& stop);
  void Refresh();
  std::chrono::milliseconds DrawPause() const;
};

// A tenth more or less, so that clients that started at once drift apart.
std::chrono::milliseconds ServerList::Impl::DrawPause() const {
  const auto tenth = static_cast<uint64_t>(options.refresh.count() / 10);
  return options.refresh - std::chrono::milliseconds(tenth) +
         std::chrono::milliseconds(RandomU64() % (2 * tenth + 1));
}

void ServerList::Impl::Refresh() {
  std::map<std::string, StatusOr<std::vector<ServerAddress>>> found;
  for (const ServerName& name : options.names) {
    const auto& answer = found.emplace(name.text(), Expand(name, options.resolver)).first->second;
    if (answer.ok()) continue;
    log::Warn("server_name_lookup_failed", {{"name", name.text()}, {"error", answer.status()}});
  }
  OnChange callback;
  std::vector<ServerAddress> now;
  {
    MutexLock lock(mutex);
    for (const ServerName& name : options.names) {
      auto& answer = found.at(name.text());
      if (answer.ok()) {
        by_name[name.text()] = *std::move(answer);
      } else if (!name.dns) {
        // A name without dns:/// is a server, which may be asked for before it is known.
        by_name.try_emplace(name.text(), 1, ServerAddress{HostPort(name.host, name.port), ""});
      } else {
        last = answer.status();
      }
    }
    for (const auto& [name, those] : by_name) now.insert(now.end(), those.begin(), those.end());
    std::sort(now.begin(), now.end());
    const auto same = [](const auto& a, const auto& b) { return a.address == b.address; };
    now.erase(std::unique(now.begin(), now.end(), same), now.end());
    if (std::exchange(addresses, now) != now) callback = on_change;
    looked_up = true;
    changed.notify_all();
  }
  if (callback) callback(now);
}

void ServerList::Impl::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    Refresh();
    if (fixed()) return;
    const auto pause = DrawPause();
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop, std::min<std::chrono::milliseconds>(kNotSooner, pause),
                     [] { return false; });
    changed.wait_for(lock, stop, pause, [this] { return soon; });
    soon = false;
  }
}

StatusOr<std::unique_ptr<ServerList>> ServerList::Create(Options options) {
  if (options.names.empty()) return BadServer("", "it names none");
  if (!options.resolver) options.resolver = SystemResolver();
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  impl->thread = StartThread("pb-servers",
                             [raw = impl.get()](const std::stop_token& stop) { raw->Run(stop); });
  {
    std::unique_lock lock(impl->mutex);
    impl->changed.wait_for(lock, impl->options.patience, [&] { return impl->looked_up; });
    if (impl->addresses.empty()) return impl->last;
  }
  return std::unique_ptr<ServerList>(new ServerList(std::move(impl)));
}

ServerList::ServerList(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ServerList::~ServerList() = default;

std::vector<ServerAddress> ServerList::addresses() const {
  MutexLock lock(impl_->mutex);
  return impl_->addresses;
}

void ServerList::Watch(OnChange on_change) {
  MutexLock lock(impl_->mutex);
  impl_->on_change = std::move(on_change);
}

void ServerList::RefreshSoon() {
  MutexLock lock(impl_->mutex);
  impl_->soon = true;
  impl_->changed.notify_all();
}

}  // namespace passband
