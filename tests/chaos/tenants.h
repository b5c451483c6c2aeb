// Tenants of a chaos run: each writer is one, with a certificate of its name.
//
// Threads    pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/tls_files.h"

namespace passband::chaos {

inline constexpr char kAuthority[] = "authority";

inline std::string TenantOf(uint32_t writer) { return "writer-" + std::to_string(writer); }

// Where the run's authority puts what is issued to `name`.
inline TlsFiles CertificatesOf(const std::filesystem::path& folder, const std::string& name) {
  return {.ca = folder / (std::string(kAuthority) + ".crt"),
          .certificate = folder / (name + ".crt"),
          .key = folder / (name + ".key")};
}

}  // namespace passband::chaos
