passband_bench(decode_bench
  DEPS passband::engine passband::embedded CLI11::CLI11 nlohmann_json::nlohmann_json fmt::fmt)
