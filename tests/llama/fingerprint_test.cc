// Goal: equal checkpoints have equal fingerprints, and a change of the
// architecture, a name, a shape or a weight changes the part it belongs to.
#include "llama/fingerprint.h"

#include <gtest/gtest.h>

#include "tests/llama/checkpoint.h"

namespace passband {
namespace {

using testing_support::FloatTensors;
using testing_support::TempFolder;
using testing_support::TinyShape;

ModelFingerprint FingerprintOf(const TinyShape& shape, const FloatTensors& tensors) {
  const TempFolder folder;
  WriteCheckpoint(folder.path(), shape, tensors);
  const auto config = LoadLlamaConfig(folder.path());
  const auto opened = Safetensors::Open(folder.path());
  EXPECT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(opened.ok()) << opened.status();
  return ComputeFingerprint(*config, **opened);
}

TEST(FingerprintTest, IsTextOfTwoDigests) {
  const TinyShape shape;
  const ModelFingerprint print = FingerprintOf(shape, shape.RandomTensors(1));
  EXPECT_EQ(print.architecture.size(), 64);
  EXPECT_EQ(print.weights.size(), 64);
  EXPECT_EQ(print.text(), print.architecture + ":" + print.weights);
  EXPECT_EQ(print.short_text().size(), 17);
  EXPECT_EQ(print, FingerprintOf(shape, shape.RandomTensors(1)));
}

TEST(FingerprintTest, ArchitectureAndWeightsAreToldApart) {
  const TinyShape shape;
  const ModelFingerprint base = FingerprintOf(shape, shape.RandomTensors(1));
  const ModelFingerprint reseeded = FingerprintOf(shape, shape.RandomTensors(2));
  EXPECT_EQ(base.architecture, reseeded.architecture);
  EXPECT_NE(base.weights, reseeded.weights);
  const TinyShape stored_in_bf16{.dtype = "bfloat16"};
  const ModelFingerprint stored = FingerprintOf(stored_in_bf16, shape.RandomTensors(1));
  EXPECT_NE(base.architecture, stored.architecture);
  EXPECT_EQ(base.weights, stored.weights);
  const TinyShape scaled{.rope_scaling = R"({"type":"linear","factor":2.0})"};
  EXPECT_NE(base.architecture, FingerprintOf(scaled, shape.RandomTensors(1)).architecture);
}

TEST(FingerprintTest, NamesShapesAndEveryByteOfSmallTensorsCount) {
  const TinyShape shape;
  const FloatTensors tensors = shape.RandomTensors(1);
  const std::string base = FingerprintOf(shape, tensors).weights;
  FloatTensors changed = tensors;
  changed.at("model.norm.weight").values.back() += 1;
  EXPECT_NE(FingerprintOf(shape, changed).weights, base);
  changed = tensors;
  changed.at("model.norm.weight").shape = {1, shape.hidden};
  EXPECT_NE(FingerprintOf(shape, changed).weights, base);
  changed = tensors;
  changed["extra"] = {{0}, {}};
  EXPECT_NE(FingerprintOf(shape, changed).weights, base);
}

TEST(FingerprintTest, LargeTensorsAreSampledFromFirstToLastByte) {
  const TinyShape shape;
  FloatTensors tensors = shape.RandomTensors(1);
  tensors["big"] = {{1 << 20}, std::vector<float>(1 << 20, 1.0F)};
  const std::string base = FingerprintOf(shape, tensors).weights;
  for (const size_t place : {size_t{0}, size_t{(1 << 20) - 1}}) {
    FloatTensors changed = tensors;
    changed.at("big").values[place] = 2.0F;
    EXPECT_NE(FingerprintOf(shape, changed).weights, base) << place;
  }
  // 4 MiB in 256 pages of 4 KiB: a quarter is read, in pages spread evenly.
  FloatTensors changed = tensors;
  for (size_t i = 0; i < 8192; ++i) changed.at("big").values[500000 + i] = 2.0F;
  EXPECT_NE(FingerprintOf(shape, changed).weights, base);
}

}  // namespace
}  // namespace passband
