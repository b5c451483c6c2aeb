passband_bench(store_bench DEPS passband::kvstore)
passband_bench(spill_bench DEPS passband::kvstore CLI11::CLI11 nlohmann_json::nlohmann_json)
target_sources(spill_bench PRIVATE raw_file.cc)
