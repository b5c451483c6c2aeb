#include "services/worker/eval/device_evaluation.h"

namespace passband {

StatusOr<std::vector<EvalResult>> EvaluateOnDevice(const LlamaModel&, KvService&, const TaskMaker&,
                                                   const EvalSettings&,
                                                   const std::vector<Combination>&,
                                                   const std::string&,
                                                   const std::function<void(uint64_t)>&, double&) {
  return Error(StatusCode::kUnimplemented, "this program was built without its CUDA part");
}

}  // namespace passband
