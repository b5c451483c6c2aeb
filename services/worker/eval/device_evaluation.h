// EvaluateOnDevice: an evaluation with the model and its attention on a GPU: full and
// fasa only (fasa-m, or fasa-c by choice), no probe.
//
// Each method prefills every document anew, then walks its scored positions one by one.
//
// Threads  one caller.
// Errors   kUnimplemented for another method; the model's, the engine's or the tasks'.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "llama/tasks.h"
#include "services/worker/eval/evaluation.h"

namespace passband {

// `fasa`: "fasa-m" or "fasa-c", which fasa stands for. `prefill_seconds` is added to.
StatusOr<std::vector<EvalResult>> EvaluateOnDevice(
    const LlamaModel& model, KvService& service, const TaskMaker& maker,
    const EvalSettings& settings, const std::vector<Combination>& plan, const std::string& fasa,
    const std::function<void(uint64_t steps)>& on_steps, double& prefill_seconds);

}  // namespace passband
