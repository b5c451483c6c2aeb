// Seeded random shapes, keys and queries for the kernels' tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cpu/targets.h"
#include "kernels/dtype.h"
#include "kernels/slice.h"

namespace passband::kernels {

class RandomInputs {
 public:
  explicit RandomInputs(uint32_t seed) : engine_(seed) {}

  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  float Normal() { return normal_(engine_); }

  template <class T>
  T OneOf(std::initializer_list<T> values) {
    return values.begin()[Uniform(0, static_cast<int>(values.size()) - 1)];
  }

  std::vector<float> Normals(size_t count, float scale = 1.0F) {
    std::vector<float> values(count);
    for (float& value : values) value = scale * Normal();
    return values;
  }

  HeadShape Shape() {
    HeadShape shape;
    shape.head_dim = OneOf<uint16_t>({64, 80, 96, 128, 256});
    shape.rotary_dim = shape.head_dim;
    if (Uniform(0, 3) == 0) shape.rotary_dim = static_cast<uint16_t>(2 * Uniform(1, 20));
    shape.layout = OneOf({RopeLayout::kHalf, RopeLayout::kInterleaved});
    shape.dtype = OneOf({DType::kBf16, DType::kF16, DType::kF32});
    return shape;
  }

  // `chunks` 0: a random number of them, up to 64.
  std::shared_ptr<SliceSpec> Spec(const HeadShape& shape, SliceEncoding encoding, int chunks = 0) {
    auto spec = std::make_shared<SliceSpec>();
    spec->shape = shape;
    spec->encoding = encoding;
    std::vector<uint16_t> all(static_cast<size_t>(shape.chunks()));
    std::iota(all.begin(), all.end(), uint16_t{0});
    std::shuffle(all.begin(), all.end(), engine_);
    const int most = std::min(64, shape.chunks());
    all.resize(static_cast<size_t>(chunks > 0 ? chunks : Uniform(1, most)));
    spec->chunks = all;
    if (IsIntEncoding(encoding)) {
      spec->mean = Normals(2 * all.size(), 2.0F);
      spec->deviation = Normals(2 * all.size());
      for (float& value : spec->deviation) value = 0.1F + value * value;
    }
    return spec;
  }

  // Rows [K | V], or keys alone, of `elements` each.
  std::vector<std::byte> Elements(size_t count, DType dtype, float scale = 1.0F) {
    std::vector<std::byte> bytes(count * DTypeBytes(dtype));
    FloatToDType(Normals(count, scale).data(), count, dtype, bytes.data());
    return bytes;
  }

  std::mt19937& engine() { return engine_; }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

inline constexpr SliceEncoding kAllEncodings[] = {SliceEncoding::kBf16, SliceEncoding::kFp8,
                                                  SliceEncoding::kInt8, SliceEncoding::kInt4,
                                                  SliceEncoding::kInt2};

// Runs `test` once for each instruction set the machine has.
template <class Test>
void ForEachTarget(Test test) {
  for (const CpuTarget& target : CpuTargets()) {
    UseCpuTarget(target.bit);
    test(target);
    UseCpuTarget(0);
  }
}

}  // namespace passband::kernels
