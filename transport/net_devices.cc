#include "transport/net_devices.h"

#include <uct/api/uct.h>

#include <memory>
#include <set>
#include <span>
#include <sstream>

#include "transport/ucx_status.h"

namespace passband::transport {
namespace {

struct Free {
  void operator()(uct_component_h* list) const { uct_release_component_list(list); }
  void operator()(uct_tl_resource_desc_t* list) const { uct_release_tl_resource_list(list); }
  void operator()(uct_md_config_t* config) const { uct_config_release(config); }
  void operator()(uct_md* domain) const { uct_md_close(domain); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

void AddDevices(uct_md_h domain, std::set<std::string>& names) {
  uct_tl_resource_desc_t* raw = nullptr;
  unsigned count = 0;
  if (uct_md_query_tl_resources(domain, &raw, &count) != UCS_OK) return;
  const Owned<uct_tl_resource_desc_t> resources(raw);
  for (const uct_tl_resource_desc_t& resource : std::span(raw, count)) {
    if (resource.dev_type == UCT_DEVICE_TYPE_NET) names.insert(resource.dev_name);
  }
}

// What cannot be opened here has no devices: a library may be there without its hardware.
void AddDevices(uct_component_h component, std::set<std::string>& names) {
  uct_component_attr_t attributes{};
  attributes.field_mask = UCT_COMPONENT_ATTR_FIELD_MD_RESOURCE_COUNT;
  if (uct_component_query(component, &attributes) != UCS_OK) return;
  std::vector<uct_md_resource_desc_t> domains(attributes.md_resource_count);
  attributes.field_mask = UCT_COMPONENT_ATTR_FIELD_MD_RESOURCES;
  attributes.md_resources = domains.data();
  if (domains.empty() || uct_component_query(component, &attributes) != UCS_OK) return;
  uct_md_config_t* raw_config = nullptr;
  if (uct_md_config_read(component, nullptr, nullptr, &raw_config) != UCS_OK) return;
  const Owned<uct_md_config_t> config(raw_config);
  for (const uct_md_resource_desc_t& domain : domains) {
    uct_md_h raw = nullptr;
    if (uct_md_open(component, domain.md_name, config.get(), &raw) != UCS_OK) continue;
    AddDevices(raw, names);
    const Owned<uct_md> close(raw);
  }
}

std::string Join(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

StatusOr<std::vector<std::string>> NetDevices() {
  uct_component_h* raw = nullptr;
  unsigned count = 0;
  PASSBAND_RETURN_IF_ERROR(FromUcx(uct_query_components(&raw, &count), "uct_query_components"));
  const Owned<uct_component_h> components(raw);
  std::set<std::string> names;
  for (uct_component_h component : std::span(raw, count)) AddDevices(component, names);
  return std::vector<std::string>(names.begin(), names.end());
}

Status CheckNetDevices(const std::string& names) {
  if (names.empty() || names == "all") return OkStatus();
  PASSBAND_ASSIGN_OR_RETURN(const std::vector<std::string> known, NetDevices());
  const std::set<std::string> here(known.begin(), known.end());
  std::vector<std::string> missing;
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    if (!here.contains(name)) missing.push_back(name.empty() ? "''" : name);
  }
  if (missing.empty()) return OkStatus();
  return Error(StatusCode::kInvalidArgument,
               "--net-devices '{}': no interface {} is up here; there {} {}", names, Join(missing),
               known.size() == 1 ? "is" : "are", known.empty() ? "none" : Join(known));
}

}  // namespace passband::transport
