#include "base/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

namespace passband {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;
using Certificates = std::vector<Owned<X509>>;

constexpr size_t kMaxFileBytes = 4 << 20;

class Faults {
 public:
  template <typename... Args>
  void Add(fmt::format_string<Args...> text, Args&&... args) {
    if (!text_.empty()) text_ += '\n';
    text_ += fmt::format(text, std::forward<Args>(args)...);
  }
  Status status() const {
    return text_.empty() ? OkStatus() : Status(StatusCode::kInvalidArgument, text_);
  }

 private:
  std::string text_;
};

// Empty, with a fault, when it cannot be had.
std::string ReadFile(const std::string& flag, const std::string& path, Faults& faults) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    faults.Add("{} '{}': cannot be read ({}); give a readable PEM file", flag, path,
               errno != 0 ? std::strerror(errno) : "it is empty or no file");
    return "";
  }
  if (text.str().size() > kMaxFileBytes) {
    faults.Add("{} '{}': {} bytes are no PEM file", flag, path, text.str().size());
    return "";
  }
  return text.str();
}

Owned<BIO> Over(const std::string& text) {
  return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Certificates ParseCertificates(const std::string& text) {
  Certificates out;
  const Owned<BIO> bio = Over(text);
  while (Owned<X509> next{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    out.push_back(std::move(next));
  }
  ERR_clear_error();  // The end of the text is an error to OpenSSL.
  return out;
}

// Whoever wants a passphrase gets none: a server does not stop to ask.
int NoPassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

std::string Date(const ASN1_TIME* time) {
  const Owned<BIO> bio{BIO_new(BIO_s_mem())};
  if (ASN1_TIME_print(bio.get(), time) != 1) return "?";
  char* data = nullptr;
  const long bytes = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(bytes)};
}

std::chrono::system_clock::time_point ToTime(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

// What is wrong with its dates; empty: nothing.
std::string DateFault(const X509& certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(&certificate)) < 0) {
    return fmt::format("expired on {}; renew it", Date(X509_get0_notAfter(&certificate)));
  }
  if (X509_cmp_current_time(X509_get0_notBefore(&certificate)) > 0) {
    return fmt::format("is not valid before {}; check this machine's clock",
                       Date(X509_get0_notBefore(&certificate)));
  }
  return "";
}

void CheckCa(const std::string& flag, const std::string& path, const std::string& text,
             Faults& faults) {
  const Certificates certificates = ParseCertificates(text);
  if (certificates.empty()) {
    faults.Add("{} '{}': holds no certificate; give the PEM file of the authority to trust", flag,
               path);
    return;
  }
  // A bundle may hold old ones beside the one in use.
  std::string fault;
  for (const auto& certificate : certificates) {
    fault = DateFault(*certificate);
    if (fault.empty()) return;
  }
  faults.Add("{} '{}': {}", flag, path, fault);
}

Owned<EVP_PKEY> ParseKey(const std::string& flag, const std::string& path, const std::string& text,
                         Faults& faults) {
  bool encrypted = false;
  Owned<EVP_PKEY> key{PEM_read_bio_PrivateKey(Over(text).get(), nullptr, NoPassphrase, &encrypted)};
  ERR_clear_error();
  if (key != nullptr) return key;
  if (encrypted) {
    faults.Add("{} '{}': has a passphrase; write one without: openssl pkey -in FILE -out FILE2",
               flag, path);
  } else {
    faults.Add("{} '{}': holds no private key; give the certificate's key as a PEM file", flag,
               path);
  }
  return nullptr;
}

void CheckIdentity(const TlsFiles& files, const TlsFlags& flags, TlsTexts& texts, Faults& faults) {
  Certificates certificates;
  if (!texts.certificate.empty()) {
    certificates = ParseCertificates(texts.certificate);
    if (certificates.empty()) {
      faults.Add("{} '{}': holds no certificate; give a PEM file", flags.certificate,
                 files.certificate);
    } else if (const std::string fault = DateFault(*certificates.front()); !fault.empty()) {
      faults.Add("{} '{}': {}", flags.certificate, files.certificate, fault);
    } else {
      texts.valid_from = ToTime(X509_get0_notBefore(certificates.front().get()));
      texts.valid_until = ToTime(X509_get0_notAfter(certificates.front().get()));
    }
  }
  Owned<EVP_PKEY> key;
  if (!texts.key.empty()) key = ParseKey(flags.key, files.key, texts.key, faults);
  if (key == nullptr || certificates.empty()) return;
  if (X509_check_private_key(certificates.front().get(), key.get()) != 1) {
    ERR_clear_error();
    faults.Add("{} '{}': is not the key of {} '{}'; give the two that were made together",
               flags.key, files.key, flags.certificate, files.certificate);
  }
}

}  // namespace

StatusOr<TlsTexts> LoadTlsFiles(const TlsFiles& files, const TlsFlags& flags) {
  Faults faults;
  TlsTexts texts;
  if (files.certificate.empty() != files.key.empty()) {
    const bool has_key = files.certificate.empty();
    faults.Add("{}: needs {} with it", has_key ? flags.key : flags.certificate,
               has_key ? flags.certificate : flags.key);
  }
  const auto read = [&](const std::string& flag, const std::string& path, std::string& text) {
    errno = 0;
    if (!path.empty()) text = ReadFile(flag, path, faults);
  };
  read(flags.ca, files.ca, texts.ca);
  read(flags.certificate, files.certificate, texts.certificate);
  read(flags.key, files.key, texts.key);
  if (!texts.ca.empty()) CheckCa(flags.ca, files.ca, texts.ca, faults);
  CheckIdentity(files, flags, texts, faults);
  PASSBAND_RETURN_IF_ERROR(faults.status());
  return texts;
}

}  // namespace passband
