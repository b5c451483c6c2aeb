// Goal: a good checkpoint's tensors come out as they went in; a bad file is
// refused with its name and the tensor's, and never read past its end.
#include "llama/safetensors.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/llama/checkpoint.h"

namespace passband {
namespace {

using testing_support::FloatTensors;
using testing_support::SafetensorsBytes;
using testing_support::SerializeFloats;
using testing_support::TempFolder;
using testing_support::WriteFile;

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The error of a file with this header over `data_bytes` bytes of data.
std::string HeaderError(const std::string& header, size_t data_bytes = 8) {
  const std::string file = SafetensorsBytes(header, std::string(data_bytes, 'x'));
  const Status status = ParseSafetensors(AsBytes(file), "weights.safetensors").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << header;
  EXPECT_NE(Message(status).find("weights.safetensors"), std::string::npos) << status;
  return Message(status);
}

std::string OneTensor(const std::string& fields) { return R"({"w":{)" + fields + "}}"; }

constexpr char kGood[] = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

FloatTensors SomeTensors() {
  return {
      {"a", {{2, 3}, {1, 2, 3, 4, 5, 6}}}, {"b.weight", {{2}, {-1, 0.5}}}, {"empty", {{0}, {}}}};
}

TEST(SafetensorsTest, TensorsComeOutAsTheyWentIn) {
  const TempFolder folder;
  WriteFile(folder.File("model.safetensors"), SerializeFloats(SomeTensors()));
  for (const std::string& path : {folder.path(), folder.File("model.safetensors")}) {
    const auto opened = Safetensors::Open(path);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_EQ((*opened)->tensors().size(), 3);
    for (const auto& [name, expected] : SomeTensors()) {
      const TensorView* tensor = (*opened)->Find(name);
      ASSERT_NE(tensor, nullptr) << name;
      EXPECT_EQ(tensor->shape, expected.shape);
      std::vector<float> values(tensor->elements());
      ASSERT_TRUE(TensorToFloat(*tensor, values).ok());
      EXPECT_EQ(values, expected.values);
    }
    EXPECT_EQ((*opened)->Find("c"), nullptr);
  }
}

TEST(SafetensorsTest, HalfPrecisionIsWidened) {
  // 1.5 and -2 in bf16, then in f16; the file does not align them.
  const std::string file =
      SafetensorsBytes(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("bf":{"dtype":"BF16","shape":[2],"data_offsets":[1,5]},)"
                       R"("h":{"dtype":"F16","shape":[2],"data_offsets":[5,9]}})",
                       std::string("\x07\xc0\x3f\x00\xc0\x00\x3e\x00\xc0", 9));
  const auto tensors = ParseSafetensors(AsBytes(file), "f");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  for (const size_t i : {1, 2}) {
    std::vector<float> values(2);
    ASSERT_TRUE(TensorToFloat((*tensors)[i], values).ok());
    EXPECT_EQ(values, (std::vector<float>{1.5F, -2.0F}));
  }
  std::vector<float> one(1);
  EXPECT_EQ(TensorToFloat((*tensors)[0], one).code(), StatusCode::kInvalidArgument);
}

TEST(SafetensorsTest, ShardsOfAnIndexAreOneCheckpoint) {
  const TempFolder folder;
  WriteFile(folder.File("one.safetensors"), SerializeFloats({{"a", {{1}, {1}}}}));
  WriteFile(folder.File("two.safetensors"), SerializeFloats({{"b", {{1}, {2}}}}));
  WriteFile(folder.File("model.safetensors.index.json"),
            R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  const auto opened = Safetensors::Open(folder.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_NE((*opened)->Find("a"), nullptr);
  EXPECT_NE((*opened)->Find("b"), nullptr);

  WriteFile(folder.File("two.safetensors"), SerializeFloats({{"a", {{1}, {2}}}}));
  const Status twice = Safetensors::Open(folder.path()).status();
  EXPECT_EQ(twice.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(twice).find("'a'"), std::string::npos) << twice;
}

TEST(SafetensorsTest, AnIndexCannotPointOutOfItsFolder) {
  const TempFolder folder;
  for (const char* shard : {R"("../one.safetensors")", R"("/etc/passwd")", "7", R"("")"}) {
    WriteFile(folder.File("model.safetensors.index.json"),
              fmt::format(R"({{"weight_map":{{"a":{}}}}})", shard));
    EXPECT_EQ(Safetensors::Open(folder.path()).status().code(), StatusCode::kInvalidArgument)
        << shard;
  }
  WriteFile(folder.File("model.safetensors.index.json"), R"({"weight_map":{"a":"gone"}})");
  EXPECT_EQ(Safetensors::Open(folder.path()).status().code(), StatusCode::kNotFound);
  WriteFile(folder.File("model.safetensors.index.json"), "{");
  EXPECT_EQ(Safetensors::Open(folder.path()).status().code(), StatusCode::kInvalidArgument);
}

TEST(SafetensorsTest, MissingAndEmptyFilesAreNamed) {
  const TempFolder folder;
  const Status missing = Safetensors::Open(folder.path()).status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_NE(Message(missing).find("model.safetensors"), std::string::npos) << missing;
  WriteFile(folder.File("model.safetensors"), "");
  EXPECT_EQ(Safetensors::Open(folder.path()).status().code(), StatusCode::kInvalidArgument);
}

TEST(SafetensorsTest, HeaderLengthMustFitTheFile) {
  std::string file = SafetensorsBytes(OneTensor(kGood), "12345678");
  ASSERT_TRUE(ParseSafetensors(AsBytes(file), "f").ok());
  for (const size_t kept : {0, 3, 7, 8, 20}) {
    EXPECT_FALSE(ParseSafetensors(AsBytes(file.substr(0, kept)), "f").ok()) << kept;
  }
  for (const int byte : {1, 4, 7}) {
    std::string longer = file;
    longer[static_cast<size_t>(byte)] = '\xff';
    EXPECT_FALSE(ParseSafetensors(AsBytes(longer), "f").ok()) << byte;
  }
}

TEST(SafetensorsTest, TruncatedDataIsRefused) {
  EXPECT_NE(HeaderError(OneTensor(kGood), 7).find("'w'"), std::string::npos);
}

TEST(SafetensorsTest, FieldsMustBeWhole) {
  for (const char* fields : {R"("dtype":"F32","shape":[2])",
                             R"("dtype":"F32","data_offsets":[0,8])",
                             R"("shape":[2],"data_offsets":[0,8])",
                             R"("dtype":"F99","shape":[2],"data_offsets":[0,8])",
                             R"("dtype":7,"shape":[2],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":2,"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[null],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8])",
                             R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[0])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[8,0])",
                             R"("dtype":"F32","shape":[3],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[4],"data_offsets":[0,16])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[4,12])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616])",
                             R"("dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8])",
                             R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"more":{})"}) {
    EXPECT_NE(HeaderError(OneTensor(fields)).find("'w'"), std::string::npos) << fields;
  }
}

TEST(SafetensorsTest, TensorsMustTileTheData) {
  const auto two = [](const char* first, const char* second) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                       R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                       first, second);
  };
  EXPECT_NE(HeaderError(two("[0,4]", "[3,7]")).find("overlap"), std::string::npos);
  EXPECT_NE(HeaderError(two("[0,4]", "[0,4]")).find("overlap"), std::string::npos);
  EXPECT_NE(HeaderError(two("[0,4]", "[5,9]"), 9).find("gap"), std::string::npos);
  EXPECT_NE(HeaderError(two("[0,4]", "[4,8]"), 9).find("after the last"), std::string::npos);
  const std::string good = SafetensorsBytes(two("[4,8]", "[0,4]"), "12345678");
  EXPECT_TRUE(ParseSafetensors(AsBytes(good), "f").ok());
}

TEST(SafetensorsTest, DuplicateNamesAreRefused) {
  const std::string header = fmt::format(R"({{"w":{{{}}},"w":{{{}}}}})", kGood, kGood);
  EXPECT_NE(HeaderError(header).find("'w' is there twice"), std::string::npos);
}

TEST(SafetensorsTest, HeadersThatAreNoTableOfTensorsAreRefused) {
  for (const std::string& header :
       {std::string(), std::string("[]"), std::string("7"), std::string("null"),
        std::string(R"({"w":7})"), std::string(R"({"w":)"), std::string(R"({"w":{}} trailing)"),
        std::string(R"({"__metadata__":{"a":{}}})"), std::string(R"({"__metadata__":{"a":[1]}})"),
        std::string("{\"\xff\":{}}"), std::string(1 << 20, '['),
        R"({"w":)" + std::string(1 << 20, '[')}) {
    HeaderError(header);
  }
}

// Any byte of a good file changed to any value: parsed or refused, and what is
// parsed lies inside the file.
TEST(SafetensorsTest, SurvivesAnyChangeOfAGoodFile) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const std::string good = SerializeFloats(SomeTensors());
  for (int round = 0; round < 20000; ++round) {
    std::string bad = good;
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    bad.resize(random() % 4 == 0 ? random() % bad.size() : bad.size());
    const auto tensors = ParseSafetensors(AsBytes(bad), "f");
    if (!tensors.ok()) continue;
    for (const TensorView& tensor : *tensors) {
      ASSERT_GE(tensor.bytes.data(), AsBytes(bad).data());
      ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), AsBytes(bad).data() + bad.size());
    }
  }
}

}  // namespace
}  // namespace passband
