passband_bench(attention_bench
  DEPS passband::kernels CLI11::CLI11 nlohmann_json::nlohmann_json fmt::fmt)
passband_bench(kernel_microbench DEPS passband::kernels benchmark::benchmark_main)
if(PASSBAND_CUDA)
  add_executable(gpu_step_bench gpu/step_bench.cc gpu/random_fill.cu)
  set_target_properties(gpu_step_bench PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  target_include_directories(gpu_step_bench PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(gpu_step_bench PRIVATE passband::kernels_cuda CUDA::cudart_static)
endif()
