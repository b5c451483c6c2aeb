// Goal: no bytes on the disk pass for a plane, a record or a family that was not written, and none
// make a parser of them crash; a directory's marker is taken or refused, whatever it holds.
#include <fstream>

#include "kvstore/spill_directory.h"
#include "kvstore/spill_format.h"
#include "tests/support/fuzz.h"

namespace passband {
namespace {

using test::Require;

constexpr BlockAddress kAddress{3, 5};
constexpr char kPayload[] = "a plane of a block";

std::string Plane() {
  const auto payload = std::as_bytes(std::span(kPayload));
  const PlaneHeader header = MakePlaneHeader(kAddress, 1, {sizeof(kPayload) * 2, 2}, payload);
  return std::string(header.data(), header.size()) + std::string(kPayload, sizeof(kPayload));
}

std::string Record() { return MakeRecordValue("\x03key", "value"); }

std::string Marker(const std::string& state) {
  return "passband spill directory\nformat 1\n" + state + "\n";
}

std::string Seed(char kind, const std::string& text) { return kind + text; }

std::vector<std::string> Seeds() {
  const PlaneKey key = MakePlaneKey(7, 3);
  return {Seed(0, Plane()),
          Seed(1, Record()),
          Seed(2, std::string(key.data(), key.size())),
          Seed(3, FormatGenerationName({.generation = 4, .salvages = 2})),
          Seed(4, Marker("whole")),
          Seed(4, Marker("started"))};
}

// Whatever stands in the marker, opening to inspect ends in a status, and changes nothing.
void OpenWithMarker(std::string_view text) {
  static const std::string folder = [] {
    std::string path = (std::filesystem::temp_directory_path() / "passband-fuzz-XXXXXX").string();
    Require(::mkdtemp(path.data()) != nullptr);
    return path;
  }();
  static const auto removed = std::atexit([] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  });
  Require(removed == 0);
  std::ofstream(folder + "/PASSBAND-SPILL", std::ios::binary) << text;
  const auto opened = SpillDirectory::Open(folder, SpillDirectory::Use::kInspect);
  if (opened.ok()) Require(text.starts_with("passband spill directory\nformat 1\n"));
}

void Parse(uint8_t kind, std::string_view bytes) {
  switch (kind % 5) {
    case 0:
      // Other bytes than those that were put have another checksum.
      if (CheckPlane(kAddress, 1, bytes).ok()) Require(bytes == Plane());
      break;
    case 1:
      if (const auto value = CheckRecord("\x03key", bytes); value.ok()) {
        Require(bytes == MakeRecordValue("\x03key", *value));
      }
      break;
    case 2:
      if (const auto id = ParsePlaneKey(bytes); id.has_value()) {
        const PlaneKey again = MakePlaneKey(id->number, id->plane);
        Require(bytes == std::string_view(again.data(), again.size()));
      }
      break;
    case 3:
      if (const auto name = ParseGenerationName(std::string(bytes)); name.has_value()) {
        const auto again = ParseGenerationName(FormatGenerationName(*name));
        Require(again.has_value() && again->generation == name->generation &&
                again->salvages == name->salvages);
      }
      break;
    default:
      OpenWithMarker(bytes);
  }
}

}  // namespace
}  // namespace passband

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv, passband::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  passband::Parse(data[0], passband::test::Text(data + 1, size - 1));
  return 0;
}
