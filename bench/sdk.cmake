# The product beside its floor; the server is a process of its own.
if(TARGET passband-server AND TARGET passband::test_support)
  passband_bench(fetch_bench DEPS passband::remote passband::test_support
    nlohmann_json::nlohmann_json CLI11::CLI11)
  target_sources(fetch_bench PRIVATE ${PROJECT_SOURCE_DIR}/bench/raw_fetch.cc)
  target_compile_definitions(fetch_bench PRIVATE
    PASSBAND_SERVER_BINARY="$<TARGET_FILE:passband-server>")
  add_dependencies(fetch_bench passband-server)
endif()
