// CertificateAuthority: an authority of a test, and the certificates that it signs, as PEM files.
//
// Threads    one at a time.
// Ownership  the files stay in the folder it was given.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "base/tls_files.h"

namespace passband::test {

class CertificateAuthority {
 public:
  struct Subject {
    std::string common_name;
    std::vector<std::string> uris;  // as in spiffe://test/tenant/a
    bool loopback = false;          // for a server at 127.0.0.1 or localhost
    int valid_from_days = -1;       // from today
    int valid_to_days = 30;
  };

  // Writes NAME.crt.
  CertificateAuthority(std::string folder, const std::string& name);
  ~CertificateAuthority();
  CertificateAuthority(const CertificateAuthority&) = delete;
  CertificateAuthority& operator=(const CertificateAuthority&) = delete;

  const std::string& file() const { return file_; }
  // Writes NAME.crt and NAME.key. The result trusts this authority.
  TlsFiles Issue(const std::string& name, const Subject& subject) const;

 private:
  struct Free {
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };

  const std::string folder_;
  const std::string file_;
  std::unique_ptr<EVP_PKEY, Free> key_;
  std::unique_ptr<X509, Free> certificate_;
};

}  // namespace passband::test
