passband_bench(attention_bench
  DEPS passband::kernels CLI11::CLI11 nlohmann_json::nlohmann_json fmt::fmt)
passband_bench(kernel_microbench DEPS passband::kernels benchmark::benchmark_main)
