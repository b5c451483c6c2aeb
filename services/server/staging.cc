#include "services/server/staging.h"

#include <algorithm>

namespace passband::server {
namespace {

size_t PagesOf(size_t bytes) { return (bytes + Staging::kPageBytes - 1) / Staging::kPageBytes; }

}  // namespace

StatusOr<std::unique_ptr<Staging>> Staging::Create(std::shared_ptr<transport::UcxContext> context,
                                                   uint64_t bytes, bool huge_pages) {
  auto mapping = Mapping::Create(
      {.bytes = PagesOf(bytes) * kPageBytes, .huge_pages = huge_pages, .touch_threads = 1});
  if (!mapping.ok()) return Annotate(mapping.status(), "staging memory");
  std::unique_ptr<transport::UcxMemory> memory;
  if (context != nullptr) {
    const std::span<std::byte> region((*mapping)->data(), PagesOf(bytes) * kPageBytes);
    auto registered = transport::UcxMemory::Register(std::move(context), region);
    if (!registered.ok()) return Annotate(registered.status(), "staging memory");
    memory = *std::move(registered);
  }
  return std::unique_ptr<Staging>(
      new Staging(*std::move(mapping), PagesOf(bytes), std::move(memory)));
}

Staging::Staging(std::unique_ptr<Mapping> mapping, size_t pages,
                 std::unique_ptr<transport::UcxMemory> memory)
    : mapping_(std::move(mapping)), memory_(std::move(memory)), pages_(pages) {}

Staging::~Staging() { PASSBAND_CHECK(used_pages_ == 0); }

std::optional<Staging::Buffer> Staging::Allocate(size_t bytes) {
  const size_t wanted = std::max<size_t>(PagesOf(bytes), 1);
  size_t run = 0;
  for (size_t page = first_free_; page < pages_.size(); ++page) {
    run = pages_[page] ? 0 : run + 1;
    if (run < wanted) continue;
    const size_t first = page + 1 - wanted;
    std::fill_n(pages_.begin() + static_cast<ptrdiff_t>(first), wanted, true);
    used_pages_ += wanted;
    while (first_free_ < pages_.size() && pages_[first_free_]) ++first_free_;
    return Buffer(this, {mapping_->data() + first * kPageBytes, bytes});
  }
  return std::nullopt;
}

void Staging::Release(std::span<std::byte> bytes) {
  const size_t first = static_cast<size_t>(bytes.data() - mapping_->data()) / kPageBytes;
  const size_t count = std::max<size_t>(PagesOf(bytes.size()), 1);
  std::fill_n(pages_.begin() + static_cast<ptrdiff_t>(first), count, false);
  used_pages_ -= count;
  first_free_ = std::min(first_free_, first);
}

}  // namespace passband::server
