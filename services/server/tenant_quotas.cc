#include "services/server/tenant_quotas.h"

#include <optional>

#include "base/units.h"
#include "services/server/session_table.h"

namespace passband::server {
namespace {

constexpr char kNone[] = "none";

class Parser {
 public:
  std::optional<uint64_t> Bytes(const std::string& flag, const std::string& text) {
    if (text == kNone) return std::nullopt;
    const StatusOr<uint64_t> bytes = ParseBytes(text);
    if (bytes.ok()) return *bytes;
    Fault(fmt::format("{}: {}; or none", flag, Message(bytes.status())));
    return std::nullopt;
  }

  std::optional<uint64_t> Count(const std::string& flag, const std::string& text) {
    if (text == kNone) return std::nullopt;
    const std::optional<uint64_t> count = ParseCount(text);
    if (!count.has_value()) Fault(fmt::format("{} '{}': give a whole number, or none", flag, text));
    return count;
  }

  void Named(const std::string& entry, TenantTable::Quotas& out) {
    const size_t equals = entry.find('=');
    const size_t colon = entry.find(':', equals == std::string::npos ? 0 : equals);
    if (equals == std::string::npos || equals == 0 || colon == std::string::npos ||
        !IsTenantName(entry.substr(0, equals))) {
      return Fault(fmt::format("{} '{}': give NAME=SIZE:COUNT, as in a=10GiB:1000", kFlag, entry));
    }
    const std::string name = entry.substr(0, equals);
    const TenantQuota quota{.bytes = Bytes(kFlag, entry.substr(equals + 1, colon - equals - 1)),
                            .sequences = Count(kFlag, entry.substr(colon + 1))};
    if (!out.emplace(name, quota).second) {
      Fault(fmt::format("{}: names tenant {} twice; keep one", kFlag, name));
    }
  }

  Status status() const {
    return faults_.empty() ? OkStatus() : Status(StatusCode::kInvalidArgument, faults_);
  }

 private:
  static constexpr char kFlag[] = "--tenant-quotas";

  void Fault(const std::string& text) { faults_ += (faults_.empty() ? "" : "\n") + text; }

  std::string faults_;
};

}  // namespace

StatusOr<TenantQuotas> ParseTenantQuotas(const TenantQuotaTexts& texts) {
  Parser parser;
  TenantQuotas out;
  out.usual.bytes = parser.Bytes("--tenant-bytes", texts.bytes);
  out.usual.sequences = parser.Count("--tenant-sequences", texts.sequences);
  for (size_t at = 0; at < texts.named.size();) {
    const size_t comma = std::min(texts.named.find(',', at), texts.named.size());
    parser.Named(texts.named.substr(at, comma - at), out.named);
    at = comma + 1;
  }
  PASSBAND_RETURN_IF_ERROR(parser.status());
  return out;
}

}  // namespace passband::server
