// StrongId: an integer id that does not mix with other ids.
//
//   using SequenceId = StrongId<struct SequenceTag>;
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <utility>

#include "fmt/format.h"

namespace passband {

template <typename Tag, typename Rep = uint64_t>
class StrongId {
 public:
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}

  constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const StrongId&) const = default;

  template <typename H>
  friend H AbslHashValue(H state, const StrongId& id) {
    return H::combine(std::move(state), id.value_);
  }

 private:
  Rep value_ = 0;
};

}  // namespace passband

template <typename Tag, typename Rep>
struct std::hash<passband::StrongId<Tag, Rep>> {
  size_t operator()(const passband::StrongId<Tag, Rep>& id) const {
    return std::hash<Rep>()(id.value());
  }
};

template <typename Tag, typename Rep>
struct fmt::formatter<passband::StrongId<Tag, Rep>> : fmt::formatter<Rep> {
  template <typename Context>
  auto format(const passband::StrongId<Tag, Rep>& id, Context& context) const {
    return fmt::formatter<Rep>::format(id.value(), context);
  }
};
