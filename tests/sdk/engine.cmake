add_library(passband_engine_support STATIC
  ${PROJECT_SOURCE_DIR}/tests/support/engine_world.cc
  ${PROJECT_SOURCE_DIR}/tests/support/map_kv_service.cc)
target_link_libraries(passband_engine_support
  PUBLIC passband::engine GTest::gtest
  PRIVATE passband_flags)

passband_test(engine_test.cc DEPS passband::engine passband_engine_support)
passband_test(engine_failure_test.cc DEPS passband::engine passband_engine_support)
passband_test(engine_walk_test.cc
  DEPS passband::engine passband::embedded passband_engine_support)
passband_test(row_cache_test.cc DEPS passband::engine)
passband_test(tail_buffer_test.cc DEPS passband::engine)
passband_test(engine_allocation_test.cc DEPS passband::engine passband_engine_support)
