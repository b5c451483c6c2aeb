#include "transport/ucx_memory.h"

#include <sys/resource.h>
#include <ucp/api/ucp.h>

#include <utility>

#include "base/units.h"

namespace passband::transport {
namespace {

std::string LockLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return "unlimited";
  }
  return FormatBytes(static_cast<double>(limit.rlim_cur));
}

}  // namespace

UcxMemory::UcxMemory(std::shared_ptr<UcxContext> context, ucp_mem* handle,
                     std::span<std::byte> region)
    : context_(std::move(context)), handle_(handle), region_(region) {}

UcxMemory::~UcxMemory() { ucp_mem_unmap(context_->handle(), handle_); }

StatusOr<std::unique_ptr<UcxMemory>> UcxMemory::Register(std::shared_ptr<UcxContext> context,
                                                         std::span<std::byte> region) {
  if (region.empty()) return Error(StatusCode::kInvalidArgument, "no memory to register");
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
  params.address = region.data();
  params.length = region.size();
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  ucp_mem_h handle = nullptr;
  const ucs_status_t status = ucp_mem_map(context->handle(), &params, &handle);
  if (status != UCS_OK) {
    return Error(StatusCode::kResourceExhausted,
                 "cannot register {} with UCX ({}); the limit on locked memory is {}: raise it "
                 "(ulimit -l), or grant IPC_LOCK",
                 FormatBytes(static_cast<double>(region.size())), ucs_status_string(status),
                 LockLimit());
  }
  return std::unique_ptr<UcxMemory>(new UcxMemory(std::move(context), handle, region));
}

bool UcxMemory::Contains(std::span<const std::byte> bytes) const {
  return bytes.data() >= region_.data() &&
         bytes.data() + bytes.size() <= region_.data() + region_.size();
}

}  // namespace passband::transport
