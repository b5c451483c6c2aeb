// What ls and inspect say of a sequence, for people and for programs.
//
// Threads  pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "sdk/operator_client.h"

namespace passband {

// "open" or "sealed".
const char* StateName(const SequenceStat& stat);

// The model's name where it has one, and the start of its fingerprint.
std::string ModelLabel(const std::string& fingerprint, std::span<const ModelSummary> models);

// "-" when it has none.
std::string TtlText(const SequenceStat& stat);
std::string PinText(const SequenceStat& stat);

nlohmann::ordered_json ToJson(const SequenceStat& stat);

}  // namespace passband
