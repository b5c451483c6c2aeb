#include "llama/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

#include "kernels/dtype.h"

namespace passband {
namespace {

Status SystemError(const std::string& what, const std::string& path) {
  const int error = errno;
  const StatusCode code = error == ENOENT ? StatusCode::kNotFound : StatusCode::kInvalidArgument;
  return Error(code, "{}: {}: {}", path, what, std::strerror(error));
}

// The shard files that the index names, each once.
StatusOr<std::set<std::string>> ShardsOf(const std::string& index_path) {
  std::ifstream in(index_path);
  const auto index = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  const bool has_map = index.is_object() && index.contains("weight_map") &&
                       index["weight_map"].is_object() && !index["weight_map"].empty();
  if (!has_map) {
    return Error(StatusCode::kInvalidArgument, "{}: no weight_map", index_path);
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (file.empty() || file.find('/') != std::string::npos) {
      return Error(StatusCode::kInvalidArgument, "{}: tensor '{}': the shard is not a file name",
                   index_path, tensor);
    }
    shards.insert(file);
  }
  return shards;
}

}  // namespace

// One file, mapped for reading.
class Safetensors::Mapping {
 public:
  static StatusOr<std::unique_ptr<Mapping>> Create(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return SystemError("open", path);
    struct stat info {};
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
      close(file);
      return Error(StatusCode::kInvalidArgument, "{}: not a file with content", path);
    }
    const auto size = static_cast<size_t>(info.st_size);
    void* address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
    const int map_error = errno;
    close(file);
    errno = map_error;
    if (address == MAP_FAILED) return SystemError("mmap", path);
    return std::unique_ptr<Mapping>(new Mapping(address, size));
  }
  ~Mapping() { munmap(address_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(address_), size_};
  }

 private:
  Mapping(void* address, size_t size) : address_(address), size_(size) {}

  void* address_;
  size_t size_;
};

Safetensors::Safetensors() = default;
Safetensors::~Safetensors() = default;

StatusOr<std::unique_ptr<Safetensors>> Safetensors::Open(const std::string& path) {
  std::unique_ptr<Safetensors> out(new Safetensors());
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    PASSBAND_RETURN_IF_ERROR(out->AddFile(path));
    return out;
  }
  const std::string index_path = path + "/model.safetensors.index.json";
  const std::string single_path = path + "/model.safetensors";
  if (std::filesystem::exists(index_path, ignored)) {
    PASSBAND_RETURN_IF_ERROR(out->AddIndex(path, index_path));
  } else {
    PASSBAND_RETURN_IF_ERROR(out->AddFile(single_path));
  }
  return out;
}

Status Safetensors::AddFile(const std::string& path) {
  PASSBAND_ASSIGN_OR_RETURN(std::unique_ptr<Mapping> mapping, Mapping::Create(path));
  PASSBAND_ASSIGN_OR_RETURN(std::vector<TensorView> tensors,
                            ParseSafetensors(mapping->bytes(), path));
  for (TensorView& tensor : tensors) {
    const std::string name = tensor.name;
    if (!tensors_.try_emplace(name, std::move(tensor)).second) {
      return Error(StatusCode::kInvalidArgument, "{}: tensor '{}' is also in another shard", path,
                   name);
    }
  }
  mappings_.push_back(std::move(mapping));
  return OkStatus();
}

Status Safetensors::AddIndex(const std::string& folder, const std::string& index_path) {
  PASSBAND_ASSIGN_OR_RETURN(const std::set<std::string> shards, ShardsOf(index_path));
  for (const std::string& shard : shards) {
    PASSBAND_RETURN_IF_ERROR(AddFile(fmt::format("{}/{}", folder, shard)));
  }
  return OkStatus();
}

const TensorView* Safetensors::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

Status TensorToFloat(const TensorView& tensor, std::span<float> out) {
  PASSBAND_CHECK(out.size() == tensor.elements());
  kernels::DType dtype = kernels::DType::kF32;
  switch (tensor.dtype) {
    case TensorDType::kF32:
      break;
    case TensorDType::kF16:
      dtype = kernels::DType::kF16;
      break;
    case TensorDType::kBf16:
      dtype = kernels::DType::kBf16;
      break;
    default:
      return Error(StatusCode::kInvalidArgument,
                   "tensor '{}' is {}; weights must be F32, F16 or BF16", tensor.name,
                   TensorDTypeName(tensor.dtype));
  }
  kernels::DTypeToFloat(tensor.bytes.data(), out.size(), dtype, out.data());
  return OkStatus();
}

}  // namespace passband
