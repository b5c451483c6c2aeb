// What ucx_peer_test and its other process agree on.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace passband::transport {

inline constexpr uint16_t kEcho = 1;  // Answered with kEchoed, header and payload alike.
inline constexpr uint16_t kEchoed = 2;
inline constexpr uint16_t kPush = 3;  // Header: u64 bytes; answered with kPushed.
inline constexpr uint16_t kPushed = 4;

inline bool WriteAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

inline bool ReadAll(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = read(fd, bytes.data(), bytes.size());
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return true;
}

inline bool WriteFrame(int fd, std::span<const std::byte> bytes) {
  const auto size = static_cast<uint32_t>(bytes.size());
  return WriteAll(fd, std::as_bytes(std::span(&size, 1))) && WriteAll(fd, bytes);
}

// Empty when the other side is gone.
inline std::vector<std::byte> ReadFrame(int fd) {
  uint32_t size = 0;
  if (!ReadAll(fd, std::as_writable_bytes(std::span(&size, 1)))) return {};
  std::vector<std::byte> bytes(size);
  if (!ReadAll(fd, bytes)) return {};
  return bytes;
}

}  // namespace passband::transport
