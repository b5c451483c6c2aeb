// Goal: no bytes make the parser of a checkpoint's config.json crash or hang.
#include "llama/config.h"
#include "tests/support/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(
      argc, argv,
      {R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,)"
       R"("intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,)"
       R"("num_key_value_heads":2,"head_dim":16,"vocab_size":256,"rms_norm_eps":1e-5,)"
       R"("rope_theta":10000.0,"max_position_embeddings":512,"tie_word_embeddings":true,)"
       R"("torch_dtype":"bfloat16","hidden_act":"silu"})",
       R"({"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":64,)"
       R"("intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,)"
       R"("vocab_size":256,"rope_scaling":{"rope_type":"llama3","factor":8.0,)"
       R"("low_freq_factor":1.0,"high_freq_factor":4.0,)"
       R"("original_max_position_embeddings":8192}})"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)passband::ParseLlamaConfig(text, "fuzz");
  return 0;
}
