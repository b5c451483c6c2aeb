// issue_certificates FOLDER: an authority, and certificates that it signs, for tests that are not
// of C++: authority.crt, server.crt and .key (for 127.0.0.1), tenant-a.crt and .key.
#include <cstdio>

#include "tests/support/certificates.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: issue_certificates FOLDER\n");
    return 2;
  }
  const passband::test::CertificateAuthority authority(argv[1], "authority");
  authority.Issue("server", {.common_name = "server", .loopback = true});
  authority.Issue("tenant-a", {.uris = {"spiffe://test/tenant/a"}});
  return 0;
}
