#include "tests/support/certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <utility>

namespace passband::test {
namespace {

constexpr long kDay = 24 * 60 * 60;

void Add(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  PASSBAND_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509* NewCertificate(EVP_PKEY* key, const std::string& common_name, int from_days, int to_days) {
  X509* out = X509_new();
  X509_set_version(out, 2);
  uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(out), serial >> 1);
  X509_gmtime_adj(X509_getm_notBefore(out), from_days * kDay);
  X509_gmtime_adj(X509_getm_notAfter(out), to_days * kDay);
  X509_set_pubkey(out, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(out), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  return out;
}

template <typename WriteTo>
void Write(const std::string& path, const WriteTo& write) {
  FILE* file = std::fopen(path.c_str(), "w");
  PASSBAND_CHECK(file != nullptr);
  PASSBAND_CHECK(write(file) == 1);
  std::fclose(file);
}

void WriteCertificate(const std::string& path, X509* certificate) {
  Write(path, [&](FILE* file) { return PEM_write_X509(file, certificate); });
}

}  // namespace

CertificateAuthority::CertificateAuthority(std::string folder, const std::string& name)
    : folder_(std::move(folder)),
      file_(folder_ + "/" + name + ".crt"),
      key_(EVP_EC_gen("P-256")),
      certificate_(NewCertificate(key_.get(), name, -2, 3650)) {
  X509* self = certificate_.get();
  X509_set_issuer_name(self, X509_get_subject_name(self));
  Add(self, self, NID_basic_constraints, "critical,CA:TRUE");
  Add(self, self, NID_key_usage, "critical,keyCertSign,cRLSign");
  Add(self, self, NID_subject_key_identifier, "hash");
  X509_sign(self, key_.get(), EVP_sha256());
  WriteCertificate(file_, self);
}

CertificateAuthority::~CertificateAuthority() = default;

TlsFiles CertificateAuthority::Issue(const std::string& name, const Subject& subject) const {
  const std::unique_ptr<EVP_PKEY, Free> key(EVP_EC_gen("P-256"));
  const std::unique_ptr<X509, Free> certificate(NewCertificate(
      key.get(), subject.common_name, subject.valid_from_days, subject.valid_to_days));
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_.get()));
  std::string names = subject.loopback ? "IP:127.0.0.1,DNS:localhost" : "";
  for (const std::string& uri : subject.uris) names += (names.empty() ? "URI:" : ",URI:") + uri;
  if (!names.empty()) Add(certificate.get(), certificate_.get(), NID_subject_alt_name, names);
  Add(certificate.get(), certificate_.get(), NID_authority_key_identifier, "keyid");
  X509_sign(certificate.get(), key_.get(), EVP_sha256());
  const TlsFiles files{.ca = file_,
                       .certificate = folder_ + "/" + name + ".crt",
                       .key = folder_ + "/" + name + ".key"};
  WriteCertificate(files.certificate, certificate.get());
  Write(files.key, [&](FILE* file) {
    return PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
  return files;
}

}  // namespace passband::test
