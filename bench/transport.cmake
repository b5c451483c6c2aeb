if(TARGET passband_kernels)
  passband_bench(raw_fetch_bench DEPS passband::transport passband::kernels
    nlohmann_json::nlohmann_json)
  target_sources(raw_fetch_bench PRIVATE ${PROJECT_SOURCE_DIR}/bench/raw_fetch.cc)
endif()
