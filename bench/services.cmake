if(TARGET passband::server)
  passband_bench(server_fetch_bench DEPS passband::server passband::proto)
endif()
