#include "sdk/client_impl.h"
#include "sdk/embedded/embedded_service.h"

namespace passband::client {

Result<Client> Client::Embedded(uint64_t ram_bytes, const std::string& tenant) {
  auto service = EmbeddedService::Create(ram_bytes, tenant);
  if (!service.ok()) return ToPublic(service.status());
  return Client(std::make_unique<Impl>(Impl{*std::move(service)}));
}

}  // namespace passband::client
