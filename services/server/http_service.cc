#include "services/server/http_service.h"

#include <httplib.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/thread.h"
#include "base/version.h"
#include "services/server/status_page_html.h"

namespace passband::server {
namespace {

constexpr size_t kServingThreads = 2;
constexpr time_t kTimeoutSeconds = 5;
constexpr char kText[] = "text/plain; charset=utf-8";
constexpr char kJson[] = "application/json";

// The library would share the port with another server that listens on it.
void DoNotSharePort(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

}  // namespace

struct HttpService::Impl {
  explicit Impl(Sources from) : sources(std::move(from)) {}

  void Configure();

  void Page(httplib::Response& response) const;
  void Metrics(httplib::Response& response) const;
  void Health(httplib::Response& response) const;
  void Ready(httplib::Response& response) const;
  void Status(httplib::Response& response) const;
  void Version(httplib::Response& response) const;

  struct Route {
    const char* path;
    void (Impl::*answer)(httplib::Response&) const;
  };
  static constexpr Route kRoutes[] = {
      {"/", &Impl::Page},        {"/metrics", &Impl::Metrics}, {"/healthz", &Impl::Health},
      {"/readyz", &Impl::Ready}, {"/version", &Impl::Version}, {"/status.json", &Impl::Status}};

  const Sources sources;
  httplib::Server server;
  int port = 0;
  std::atomic<bool> ended{false};
  std::jthread thread;
};

void HttpService::Impl::Configure() {
  server.new_task_queue = [] { return new httplib::ThreadPool(kServingThreads); };
  server.set_socket_options(DoNotSharePort);
  server.set_read_timeout(kTimeoutSeconds);
  server.set_write_timeout(kTimeoutSeconds);
  // A kept connection occupies one of our few threads.
  server.set_keep_alive_timeout(1);
  server.set_payload_max_length(64 * 1024);
  // What is shown is for the eyes of whoever asks, and for no other page to use.
  server.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                              {"Referrer-Policy", "no-referrer"},
                              {"Cross-Origin-Resource-Policy", "same-origin"}});
  for (const Route& route : kRoutes) {
    server.Get(route.path, [this, &route](const httplib::Request&, httplib::Response& response) {
      (this->*route.answer)(response);
    });
  }
}

void HttpService::Impl::Page(httplib::Response& response) const {
  response.set_header("Content-Security-Policy",
                      "default-src 'none'; style-src 'unsafe-inline'; "
                      "script-src 'unsafe-inline'; connect-src 'self'; img-src data:");
  response.set_content(kStatusPageHtml, "text/html; charset=utf-8");
}

void HttpService::Impl::Metrics(httplib::Response& response) const {
  response.set_content(sources.metrics(), "text/plain; version=0.0.4; charset=utf-8");
}

void HttpService::Impl::Health(httplib::Response& response) const {
  response.set_content("ok\n", kText);
}

void HttpService::Impl::Ready(httplib::Response& response) const {
  const bool ready = sources.ready();
  response.status = ready ? 200 : 503;
  response.set_content(ready ? "ready\n" : sources.draining() ? "draining\n" : "starting\n", kText);
}

void HttpService::Impl::Version(httplib::Response& response) const {
  response.set_content(nlohmann::json{{"version", kVersion}}.dump() + "\n", kJson);
}

void HttpService::Impl::Status(httplib::Response& response) const {
  response.set_header("Cache-Control", "no-store");
  response.set_content(sources.status_json(), kJson);
}

std::vector<std::string> HttpService::Paths() {
  std::vector<std::string> paths;
  for (const Impl::Route& route : Impl::kRoutes) paths.emplace_back(route.path);
  return paths;
}

StatusOr<std::unique_ptr<HttpService>> HttpService::Start(const std::string& host, uint16_t port,
                                                          Sources sources) {
  auto impl = std::make_unique<Impl>(std::move(sources));
  impl->Configure();
  impl->port = port != 0 ? (impl->server.bind_to_port(host, port) ? port : -1)
                         : impl->server.bind_to_any_port(host);
  if (impl->port <= 0) {
    return Error(StatusCode::kUnavailable,
                 "cannot listen for HTTP on {} port {}: is it taken? Choose another --http-port, "
                 "or 0 for any",
                 host, port);
  }
  impl->thread = StartThread("passband-http", [raw = impl.get()](const std::stop_token&) {
    raw->server.listen_after_bind();
    raw->ended = true;
  });
  return std::unique_ptr<HttpService>(new HttpService(std::move(impl)));
}

HttpService::HttpService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpService::~HttpService() {
  // Before it runs, stop() does nothing, and the thread would serve for ever.
  while (!impl_->server.is_running() && !impl_->ended) std::this_thread::yield();
  impl_->server.stop();
}

uint16_t HttpService::port() const { return static_cast<uint16_t>(impl_->port); }

}  // namespace passband::server
