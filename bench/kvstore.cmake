passband_bench(store_bench DEPS passband::kvstore)
