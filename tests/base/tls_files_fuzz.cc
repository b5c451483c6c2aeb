// Goal: no bytes in a certificate, authority or key file crash a program that reads them, and no
// message about a key shows anything of it.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <iterator>

#include "base/tls_files.h"
#include "tests/support/certificates.h"
#include "tests/support/fuzz.h"

namespace passband {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The texts of files that fit each other.
const TlsTexts& Good() {
  static const TlsTexts texts = [] {
    std::string folder = (std::filesystem::temp_directory_path() / "passband-fuzz-XXXXXX").string();
    test::Require(::mkdtemp(folder.data()) != nullptr);
    const test::CertificateAuthority authority(folder, "ca");
    const TlsFiles files = authority.Issue(
        "server", {.common_name = "a", .uris = {"spiffe://test/tenant/a"}, .loopback = true});
    const TlsTexts out{ReadFile(files.ca), ReadFile(files.certificate), ReadFile(files.key)};
    std::filesystem::remove_all(folder);
    return out;
  }();
  return texts;
}

// A file without a name.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view text) : fd_(::memfd_create("tls", 0)) {
    test::Require(::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  const int fd_;
};

// A line as keys are written in: words of messages are shorter. A text as a whole may say what a
// message says.
bool IsSecret(std::string_view line) {
  return line.size() >= 24 && std::all_of(line.begin(), line.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '+' || c == '/' || c == '=';
         });
}

bool Shows(std::string_view message, std::string_view key) {
  while (!key.empty()) {
    const std::string_view line = key.substr(0, key.find('\n'));
    if (IsSecret(line) && message.find(line) != std::string_view::npos) return true;
    key.remove_prefix(std::min(key.size(), line.size() + 1));
  }
  return false;
}

// One of the three files holds `text`.
void Load(uint8_t which, std::string_view text) {
  const TlsTexts& good = Good();
  const MemoryFile ca(which % 3 == 0 ? text : good.ca);
  const MemoryFile certificate(which % 3 == 1 ? text : good.certificate);
  const MemoryFile key(which % 3 == 2 ? text : good.key);
  const auto loaded = LoadTlsFiles({ca.path(), certificate.path(), key.path()});
  if (loaded.ok() || which % 3 != 2) return;
  test::Require(!Shows(Message(loaded.status()), text));
}

}  // namespace
}  // namespace passband

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const passband::TlsTexts& good = passband::Good();
  passband::test::BeginWith(
      argc, argv,
      {std::string(1, 0) + good.ca, std::string(1, 1) + good.certificate,
       std::string(1, 1) + good.certificate + good.ca, std::string(1, 2) + good.key});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) passband::Load(data[0], passband::test::Text(data + 1, size - 1));
  return 0;
}
