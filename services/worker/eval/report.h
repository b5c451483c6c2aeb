// Reports of an evaluation: a table for people, JSON for programs
// ("passband.eval/v1").
//
// Units    bytes; per-token numbers are per scored position, over all layers and
//          kv heads.
// Threads  pure functions.
#pragma once

#include <string>
#include <vector>

#include "services/console/terminal.h"
#include "services/worker/eval/evaluation.h"

namespace passband {

// What the numbers were measured with.
struct EvalSetup {
  std::string model;
  std::string fingerprint;
  std::string transport;
  std::string text_file;
  uint32_t row_bytes = 0;
  double prefill_seconds = 0;
  double total_seconds = 0;
};

std::string EvalTable(const EvalSetup& setup, const EvalSettings& settings,
                      const std::vector<EvalResult>& results, const Terminal& terminal);

std::string EvalJson(const EvalSetup& setup, const EvalSettings& settings,
                     const std::vector<EvalResult>& results);

}  // namespace passband
