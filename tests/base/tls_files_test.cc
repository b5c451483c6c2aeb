// Goal: files that TLS cannot use are told before anything starts, all at once, by setting and
// with what to do; and never with anything of a key.
#include "base/tls_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/pem.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "tests/support/certificates.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TlsFilesTest : public ::testing::Test {
 protected:
  std::string Faults(const TlsFiles& files) {
    const auto texts = LoadTlsFiles(files);
    EXPECT_EQ(texts.status().code(), StatusCode::kInvalidArgument) << texts.status();
    return Message(texts.status());
  }
  static std::string Read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  const test::TempFolder folder_;
  const test::CertificateAuthority authority_{folder_.path(), "authority"};
  const TlsFiles good_ = authority_.Issue("good", {.common_name = "good"});
};

TEST_F(TlsFilesTest, GoodFilesAreRead) {
  const auto texts = LoadTlsFiles(good_);
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(texts->ca, Read(good_.ca));
  EXPECT_EQ(texts->certificate, Read(good_.certificate));
  EXPECT_EQ(texts->key, Read(good_.key));
}

TEST_F(TlsFilesTest, NoFilesAreNoFault) {
  const auto texts = LoadTlsFiles({});
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_TRUE(TlsFiles().empty());
}

TEST_F(TlsFilesTest, EveryFaultIsToldAtOnce) {
  const std::string faults =
      Faults({.ca = folder_ / "absent", .certificate = folder_ / "none", .key = good_.ca});
  EXPECT_THAT(faults, AllOf(HasSubstr("--tls-ca '"), HasSubstr("absent': cannot be read"),
                            HasSubstr("--tls-cert '"), HasSubstr("none': cannot be read"),
                            HasSubstr("--tls-key '"), HasSubstr("holds no private key")));
}

TEST_F(TlsFilesTest, AKeyAndItsCertificateComeTogether) {
  EXPECT_THAT(Faults({.ca = "", .certificate = good_.certificate, .key = ""}),
              HasSubstr("--tls-cert: needs --tls-key with it"));
  EXPECT_THAT(Faults({.ca = "", .certificate = "", .key = good_.key}),
              HasSubstr("--tls-key: needs --tls-cert with it"));
}

TEST_F(TlsFilesTest, AKeyOfAnotherCertificateIsAFault) {
  const TlsFiles other = authority_.Issue("other", {.common_name = "other"});
  EXPECT_THAT(Faults({.ca = "", .certificate = good_.certificate, .key = other.key}),
              AllOf(HasSubstr("is not the key of --tls-cert"), HasSubstr(good_.certificate)));
}

TEST_F(TlsFilesTest, DatesAreChecked) {
  const TlsFiles old = authority_.Issue(
      "old", {.common_name = "old", .uris = {}, .valid_from_days = -9, .valid_to_days = -1});
  EXPECT_THAT(Faults(old), HasSubstr("expired on"));
  const TlsFiles early = authority_.Issue(
      "early", {.common_name = "early", .uris = {}, .valid_from_days = 2, .valid_to_days = 9});
  EXPECT_THAT(Faults(early), HasSubstr("is not valid before"));
  // As an authority, too.
  EXPECT_THAT(Faults({.ca = old.certificate, .certificate = "", .key = ""}),
              HasSubstr("expired on"));
}

TEST_F(TlsFilesTest, ABundleMayHoldOldAuthoritiesBesideAGoodOne) {
  const TlsFiles old = authority_.Issue(
      "old", {.common_name = "old", .uris = {}, .valid_from_days = -9, .valid_to_days = -1});
  const std::string bundle = folder_ / "bundle.crt";
  std::ofstream(bundle) << Read(old.certificate) << Read(good_.ca);
  EXPECT_TRUE(LoadTlsFiles({.ca = bundle, .certificate = "", .key = ""}).ok());
}

TEST_F(TlsFilesTest, FilesOfOtherKindsAreFaultsAndAKeyIsNeverShown) {
  const std::string key = Read(good_.key);
  // The key given as certificate and the other way round.
  const std::string swapped =
      Faults({.ca = good_.key, .certificate = good_.key, .key = good_.certificate});
  EXPECT_THAT(swapped, AllOf(HasSubstr("--tls-ca"), HasSubstr("holds no certificate"),
                             HasSubstr("holds no private key")));
  EXPECT_THAT(swapped, Not(HasSubstr(key.substr(40, 20))));
  const std::string cut = folder_ / "cut.key";
  std::ofstream(cut) << key.substr(0, key.size() / 2);
  const std::string faults = Faults({.ca = "", .certificate = good_.certificate, .key = cut});
  EXPECT_THAT(faults, HasSubstr("holds no private key"));
  EXPECT_THAT(faults, Not(HasSubstr(key.substr(40, 20))));
  const std::string folder = Faults({.ca = folder_.path(), .certificate = "", .key = ""});
  EXPECT_THAT(folder, HasSubstr("--tls-ca"));
}

TEST_F(TlsFilesTest, AKeyWithAPassphraseIsRefusedWithoutAsking) {
  const std::string locked = folder_ / "locked.key";
  FILE* file = std::fopen(locked.c_str(), "w");
  ASSERT_NE(file, nullptr);
  EVP_PKEY* key = EVP_EC_gen("P-256");
  char passphrase[] = "secret";
  EXPECT_EQ(
      PEM_write_PKCS8PrivateKey(file, key, EVP_aes_128_cbc(), passphrase, 6, nullptr, nullptr), 1);
  EVP_PKEY_free(key);
  std::fclose(file);
  EXPECT_THAT(Faults({.ca = "", .certificate = good_.certificate, .key = locked}),
              AllOf(HasSubstr("has a passphrase"), HasSubstr("openssl pkey")));
}

}  // namespace
}  // namespace passband
