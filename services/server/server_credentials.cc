#include "services/server/server_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>

namespace passband::server {
namespace {

// grpc++ has no credentials that ask for their files with each connection; gRPC itself does. Its
// own watcher of files drops the certificate in use for one that cannot be read.
class WatchedCredentials final : public grpc::ServerCredentials {
 public:
  explicit WatchedCredentials(const TlsWatch& watch) : watch_(watch) {
    const auto clients = watch.client_certificates()
                             ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    handle_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, &Fetch, this));
  }
  ~WatchedCredentials() override { grpc_server_credentials_release(handle_); }
  WatchedCredentials(const WatchedCredentials&) = delete;
  WatchedCredentials& operator=(const WatchedCredentials&) = delete;

  // Sessions are proved call by call.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), handle_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<WatchedCredentials*>(self)->Fetch(config);
  }
  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config) {
    const std::shared_ptr<const TlsTexts> texts = watch_.texts();
    const MutexLock lock(mutex_);
    if (texts == given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair{texts->key.c_str(), texts->certificate.c_str()};
    *config = grpc_ssl_server_certificate_config_create(
        texts->ca.empty() ? nullptr : texts->ca.c_str(), &pair, 1);
    given_ = texts;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const TlsWatch& watch_;
  grpc_server_credentials* handle_;
  Mutex mutex_;
  std::shared_ptr<const TlsTexts> given_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const TlsWatch* watch) {
  if (watch == nullptr) return grpc::InsecureServerCredentials();
  return std::make_shared<WatchedCredentials>(*watch);
}

}  // namespace passband::server
