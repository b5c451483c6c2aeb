// The version of Passband, as programs print it.
#pragma once

namespace passband {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace passband
