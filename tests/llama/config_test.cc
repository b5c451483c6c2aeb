// Goal: a config.json is read as Transformers means it, and what the forward
// pass cannot compute exactly is refused with the reason.
#include "llama/config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/llama/checkpoint.h"

namespace passband {
namespace {

using Json = nlohmann::json;

Json Base() {
  return Json::parse(R"({"model_type":"llama","hidden_size":4096,"intermediate_size":14336,
    "num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,
    "vocab_size":128256,"max_position_embeddings":131072,"rms_norm_eps":1e-05,
    "rope_theta":500000.0,"hidden_act":"silu","tie_word_embeddings":false,
    "torch_dtype":"bfloat16","rope_scaling":{"factor":8.0,"low_freq_factor":1.0,
    "high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}})");
}

StatusOr<LlamaConfig> ParseWith(const char* patch) {
  Json json = Base();
  json.merge_patch(Json::parse(patch));
  return ParseLlamaConfig(json.dump(), "config.json");
}

TEST(ConfigTest, ReadsLlama31) {
  const auto config = ParseLlamaConfig(Base().dump(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers, 32);
  EXPECT_EQ(config->head_dim, 128);  // hidden / heads
  EXPECT_EQ(config->group(), 4);
  EXPECT_EQ(config->rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(config->rope.rotary_dim, 128);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_EQ(config->head_shape().row_bytes(), 512);
  EXPECT_EQ(config->layer_row_bytes(), 8 * 512);
  EXPECT_FLOAT_EQ(config->attention_scale(), 1.0F / std::sqrt(128.0F));
}

TEST(ConfigTest, ReadsTheFamiliesDifferences) {
  const auto qwen = ParseWith(
      R"({"model_type":"qwen2","sliding_window":131072,"use_sliding_window":false,
          "rope_scaling":null})");
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  EXPECT_TRUE(qwen->qkv_bias);
  EXPECT_FALSE(qwen->output_bias);
  EXPECT_EQ(qwen->rope.scaling, RopeScaling::kNone);
  const auto mistral =
      ParseWith(R"({"model_type":"mistral","sliding_window":null,"rope_scaling":null})");
  ASSERT_TRUE(mistral.ok()) << mistral.status();
  EXPECT_FALSE(mistral->qkv_bias);
  const auto biased = ParseWith(R"({"attention_bias":true,"mlp_bias":true})");
  ASSERT_TRUE(biased.ok()) << biased.status();
  EXPECT_TRUE(biased->qkv_bias && biased->output_bias && biased->mlp_bias);
}

TEST(ConfigTest, ReadsPartialRotationAndOtherDTypes) {
  const auto config = ParseWith(
      R"({"head_dim":64,"partial_rotary_factor":0.5,"torch_dtype":"float16",
          "rope_scaling":{"rope_type":null,"type":"linear","factor":2}})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.rotary_dim, 32);
  EXPECT_EQ(config->kv_dtype, kernels::DType::kF16);
  EXPECT_EQ(config->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(config->rope.factor, 2.0);
}

TEST(ConfigTest, RefusesWhatItCannotComputeAndSaysWhy) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model_type":"gemma2"})", "gemma2"},
      {R"({"model_type":null})", "model_type"},
      {R"({"hidden_act":"gelu"})", "hidden_act"},
      {R"({"sliding_window":4096})", "sliding_window"},
      {R"({"model_type":"qwen2","sliding_window":4096,"use_sliding_window":true})",
       "sliding_window"},
      {R"({"rope_scaling":{"rope_type":"yarn","factor":4}})", "yarn"},
      {R"({"quantization_config":{"bits":4}})", "quantized"},
      {R"({"torch_dtype":"float8_e4m3fn"})", "float8_e4m3fn"},
      {R"({"head_dim":512})", "head_dim"},
      {R"({"num_attention_heads":32,"num_key_value_heads":1})", "share a kv head"},
  };
  for (const auto& [patch, reason] : cases) {
    const Status status = ParseWith(patch).status();
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << patch << ": " << status;
    EXPECT_NE(Message(status).find(reason), std::string::npos) << status;
  }
}

TEST(ConfigTest, RefusesNonsense) {
  for (const char* patch :
       {R"({"hidden_size":null})", R"({"hidden_size":0})", R"({"hidden_size":-4})",
        R"({"hidden_size":"4096"})", R"({"hidden_size":1e99})", R"({"num_hidden_layers":1000000})",
        R"({"num_key_value_heads":5})", R"({"rms_norm_eps":0})", R"({"rope_theta":"big"})",
        R"({"rope_scaling":7})", R"({"rope_scaling":{"factor":-1}})", R"({"head_dim":0})",
        R"({"rope_scaling":{"low_freq_factor":4}})", R"({"partial_rotary_factor":2})",
        R"({"partial_rotary_factor":0.001})", R"({"tie_word_embeddings":"yes"})"}) {
    EXPECT_EQ(ParseWith(patch).status().code(), StatusCode::kInvalidArgument) << patch;
  }
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string(100000, '[')}) {
    EXPECT_EQ(ParseLlamaConfig(text, "c").status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(ConfigTest, AMissingFileIsNamed) {
  const testing_support::TempFolder folder;
  const Status status = LoadLlamaConfig(folder.path()).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(Message(status).find("config.json"), std::string::npos);
}

}  // namespace
}  // namespace passband
