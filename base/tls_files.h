// TlsFiles: certificates and keys as PEM files, checked as a whole before anything uses them.
//
// Errors  kInvalidArgument lists every fault, one line each, with the setting's name and what to
//         do. No message holds anything of a key.
#pragma once

#include <chrono>
#include <string>

#include "base/status.h"

namespace passband {

struct TlsFiles {
  std::string ca;           // whom to trust
  std::string certificate;  // who we are, followed by intermediates
  std::string key;          // of the certificate

  bool empty() const { return ca.empty() && certificate.empty() && key.empty(); }
};

// The settings that name the files, as errors call them.
struct TlsFlags {
  std::string ca = "--tls-ca";
  std::string certificate = "--tls-cert";
  std::string key = "--tls-key";
};

// The files' contents.
struct TlsTexts {
  std::string ca;
  std::string certificate;
  std::string key;
  // Of the certificate; the epoch without one.
  std::chrono::system_clock::time_point valid_from, valid_until;
};

// Reads the files that are named. Each must hold what it should: certificates that are valid
// today, a key without a passphrase that fits its certificate. Neither comes without the other.
StatusOr<TlsTexts> LoadTlsFiles(const TlsFiles& files, const TlsFlags& flags = {});

}  // namespace passband
