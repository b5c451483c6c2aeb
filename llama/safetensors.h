// Safetensors: the tensors of a checkpoint, mapped from its files.
//
// Reads one .safetensors file, or every shard that model.safetensors.index.json
// names. The files are outside input: each header is checked whole (length,
// JSON shape, names, element types, shapes, offsets) before any tensor is
// handed out, so a TensorView always lies inside its file.
//
// Units      sizes and offsets in bytes, shapes in elements.
// Threads    immutable after Open; safe.
// Ownership  owns the mappings; a TensorView's bytes live as long as this. A
//            file that is shortened while mapped ends the process (SIGBUS), as
//            for every reader of mapped files.
// Errors     kNotFound         a file is missing
//            kInvalidArgument  a malformed file; the message names file and tensor
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace passband {

enum class TensorDType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBf16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kF8E4M3,
  kF8E5M2
};

size_t TensorDTypeBytes(TensorDType dtype);
// "BF16", as the file format spells it.
const char* TensorDTypeName(TensorDType dtype);

struct TensorView {
  std::string name;
  TensorDType dtype = TensorDType::kF32;
  std::vector<uint64_t> shape;
  std::span<const std::byte> bytes;

  uint64_t elements() const { return bytes.size() / TensorDTypeBytes(dtype); }
};

// "[256, 384]".
std::string ShapeText(std::span<const uint64_t> shape);

// Parses a whole file in memory; views point into `file`. `file_name` is only
// for messages. Refuses gaps and overlaps between tensors, bytes after the
// last one, duplicate names, and headers past 100 MiB.
StatusOr<std::vector<TensorView>> ParseSafetensors(std::span<const std::byte> file,
                                                   const std::string& file_name);

class Safetensors {
 public:
  // `path`: a .safetensors file, or a folder with model.safetensors or
  // model.safetensors.index.json.
  static StatusOr<std::unique_ptr<Safetensors>> Open(const std::string& path);
  ~Safetensors();
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;

  // Null when there is no such tensor.
  const TensorView* Find(const std::string& name) const;
  // In name order.
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  class Mapping;
  Safetensors();
  Status AddFile(const std::string& path);
  Status AddIndex(const std::string& folder, const std::string& index_path);

  std::vector<std::unique_ptr<Mapping>> mappings_;
  std::map<std::string, TensorView> tensors_;
};

// The tensor's elements as float. kInvalidArgument unless F32, F16 or BF16.
Status TensorToFloat(const TensorView& tensor, std::span<float> out);

}  // namespace passband
