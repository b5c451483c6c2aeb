# The worker engine: everything a decode step needs but the service itself.
passband_library(engine
  SOURCES engine.cc fetcher.cc full_step.cc page_buffer.cc prefix_attach.cc row_cache.cc
          sequence_state.cc sparse_step.cc step_append.cc tail_buffer.cc tip_selector.cc
          worker_sequence.cc
  DEPS passband::base passband::kernels passband::profile)
