# The product beside its floor; the server is a process of its own.
if(TARGET passband-server AND TARGET passband::test_support)
  passband_bench(fetch_bench DEPS passband::remote passband::test_support passband::test_certificates
    nlohmann_json::nlohmann_json CLI11::CLI11)
  target_sources(fetch_bench PRIVATE ${PROJECT_SOURCE_DIR}/bench/raw_fetch.cc)
  target_compile_definitions(fetch_bench PRIVATE
    PASSBAND_SERVER_BINARY="$<TARGET_FILE:passband-server>")
  add_dependencies(fetch_bench passband-server)

  # Many workers at a time.
  passband_bench(workers_bench DEPS passband::remote passband::test_support
    nlohmann_json::nlohmann_json CLI11::CLI11)
  target_compile_definitions(workers_bench PRIVATE
    PASSBAND_SERVER_BINARY="$<TARGET_FILE:passband-server>")
  add_dependencies(workers_bench passband-server)
endif()
# Beside Redis and memcached; `make bench-peers` installs them.
if(TARGET fetch_bench)
  passband_bench(peers_bench DEPS passband::remote passband::console passband::test_support
    nlohmann_json::nlohmann_json CLI11::CLI11)
  target_sources(peers_bench PRIVATE
    ${PROJECT_SOURCE_DIR}/bench/peers/memcached.cc
    ${PROJECT_SOURCE_DIR}/bench/peers/passband.cc
    ${PROJECT_SOURCE_DIR}/bench/peers/peer_process.cc
    ${PROJECT_SOURCE_DIR}/bench/peers/redis.cc
    ${PROJECT_SOURCE_DIR}/bench/peers/stream.cc)
  target_compile_definitions(peers_bench PRIVATE
    PASSBAND_SERVER_BINARY="$<TARGET_FILE:passband-server>")
  add_dependencies(peers_bench passband-server)
endif()
