passband_bench(llama_bench DEPS passband::llama)
