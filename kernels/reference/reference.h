// Reference: every kernel again in its plainest form, one element at a time, as
// the definition that the tests hold each backend to. Slow; not for production.
//
// Result   slices and selections are the exact answer; scores and attention are
//          computed in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/fac.h"
#include "kernels/select.h"
#include "kernels/slice.h"

namespace passband::kernels::reference {

inline float Element(const std::byte* at, DType dtype, size_t index) {
  float value = 0;
  DTypeToFloat(at + index * DTypeBytes(dtype), 1, dtype, &value);
  return value;
}

inline int DimOf(const SliceSpec& spec, size_t component) {
  const size_t chunks = spec.chunks.size();
  const ChunkDims dims = DimsOfChunk(spec.shape, spec.chunks[component % chunks]);
  return component < chunks ? dims.first : dims.second;
}

inline float Fp8Value(int code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  const float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                    : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return code >= 128 ? -value : value;
}

// The nearest of all e4m3fn numbers, ties to the even code.
inline int Fp8Code(float value) {
  if (std::isnan(value)) return 0x7f;
  int best = 0;
  for (int code = 1; code < 0x7f; ++code) {
    const double distance = std::fabs(std::fabs(double{value}) - Fp8Value(code));
    const double least = std::fabs(std::fabs(double{value}) - Fp8Value(best));
    if (std::isinf(value) || distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(value) ? 0x80 : 0);
}

inline int IntCode(float value, float mean, float deviation, SliceEncoding encoding) {
  const auto levels = static_cast<float>(LevelsOf(encoding));
  const float difference = value - mean;
  const float z = difference / deviation;
  const float in_steps = z / StepOf(encoding);
  const float level = std::floor(in_steps + levels / 2);
  if (std::isnan(level)) return 0;
  return static_cast<int>(std::clamp(level, 0.0F, levels - 1));
}

inline void EncodeSlice(const SliceSpec& spec, const std::byte* key, std::byte* slice) {
  std::memset(slice, 0, spec.slice_bytes());
  const int bits = BitsPerComponent(spec.encoding);
  for (size_t j = 0; j < static_cast<size_t>(spec.components()); ++j) {
    const float value = Element(key, spec.shape.dtype, static_cast<size_t>(DimOf(spec, j)));
    uint32_t code = 0;
    if (spec.encoding == SliceEncoding::kBf16) {
      std::byte narrow[2];
      FloatToDType(&value, 1, DType::kBf16, narrow);
      code = std::to_integer<uint32_t>(narrow[0]) | std::to_integer<uint32_t>(narrow[1]) << 8;
      if (std::isnan(value)) code = 0x7fc0;
    } else if (spec.encoding == SliceEncoding::kFp8) {
      code = static_cast<uint32_t>(Fp8Code(value));
    } else {
      code = static_cast<uint32_t>(IntCode(value, spec.mean[j], spec.deviation[j], spec.encoding));
    }
    for (int b = 0; b < bits; ++b) {
      const size_t at = j * static_cast<size_t>(bits) + static_cast<size_t>(b);
      if ((code >> b & 1) != 0) slice[at / 8] |= std::byte{1} << (at % 8);
    }
  }
}

// The code of an int slice's component.
inline int CodeOf(const SliceSpec& spec, const std::byte* slice, size_t component) {
  const int bits = BitsPerComponent(spec.encoding);
  int code = 0;
  for (int b = 0; b < bits; ++b) {
    const size_t at = component * static_cast<size_t>(bits) + static_cast<size_t>(b);
    code |= (std::to_integer<int>(slice[at / 8]) >> (at % 8) & 1) << b;
  }
  return code;
}

// The query of one head as TIP rounds it for the int encodings.
struct RoundedQuery {
  std::vector<int> levels;
  double step = 0;  // 0: no level is used
};
inline RoundedQuery RoundQuery(const SliceSpec& spec, const float* query, float scale) {
  RoundedQuery result;
  std::vector<float> product;
  float largest = 0;
  for (size_t j = 0; j < static_cast<size_t>(spec.components()); ++j) {
    product.push_back(query[DimOf(spec, j)] * scale * (spec.deviation[j] * StepOf(spec.encoding)));
    largest = std::max(largest, std::fabs(product.back()));
  }
  float least = largest / 127;
  if (spec.encoding == SliceEncoding::kInt2) {
    std::vector<float> of_word(product.size() / 8 + 1);
    for (size_t j = 0; j < product.size(); ++j) of_word[j / 8] += std::fabs(product[j]);
    least = *std::max_element(of_word.begin(), of_word.end()) / 81;
  }
  constexpr auto kLog2E = std::numbers::log2e_v<float>;
  float log2_step = least * kLog2E;
  if (log2_step >= 0x1p-18F && log2_step < 1) log2_step = std::ceil(log2_step * 0x1p23F) / 0x1p23F;
  for (const float value : product) {
    const float level = largest > 0 ? std::nearbyint(value / (log2_step / kLog2E)) : 0.0F;
    result.levels.push_back(static_cast<int>(level));
  }
  result.step = log2_step * std::numbers::ln2;
  return result;
}

// One head's sum_j q[j] * code[j] of one slice, exact.
inline int64_t IntegerScore(const SliceSpec& spec, const RoundedQuery& query,
                            const std::byte* slice) {
  int64_t score = 0;
  for (size_t j = 0; j < query.levels.size(); ++j) {
    score += query.levels[j] * CodeOf(spec, slice, j);
  }
  return score;
}

inline std::vector<double> Softmax(const std::vector<double>& logits) {
  if (logits.empty()) return {};
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  double total = 0;
  for (const double logit : logits) {
    weights.push_back(std::exp(logit - largest));
    total += weights.back();
  }
  for (double& weight : weights) weight /= total;
  return weights;
}

// slices: [tokens][slice_bytes].
inline std::vector<double> TipScores(const SliceSpec& spec, const std::vector<std::byte>& slices,
                                     size_t tokens, const float* queries, int group, float scale) {
  std::vector<double> scores(tokens, 0.0);
  const size_t components = static_cast<size_t>(spec.components());
  std::vector<float> decoded(components);
  for (int h = 0; h < group; ++h) {
    const float* query = queries + h * spec.shape.head_dim;
    const bool is_int = IsIntEncoding(spec.encoding);
    const RoundedQuery rounded = is_int ? RoundQuery(spec, query, scale) : RoundedQuery();
    std::vector<double> logits(tokens, 0.0);
    for (size_t t = 0; t < tokens; ++t) {
      const std::byte* slice = slices.data() + t * spec.slice_bytes();
      if (is_int) {
        logits[t] = static_cast<double>(IntegerScore(spec, rounded, slice)) * rounded.step;
        continue;
      }
      DecodeSlice(spec, slice, decoded.data());
      for (size_t j = 0; j < components; ++j) {
        logits[t] += double{query[DimOf(spec, j)]} * scale * decoded[j];
      }
    }
    const std::vector<double> weights = Softmax(logits);
    for (size_t t = 0; t < tokens; ++t) scores[t] += weights[t] / group;
  }
  return scores;
}

inline std::vector<uint32_t> SelectTokens(const std::vector<float>& scores,
                                          const SelectOptions& options) {
  const auto tokens = static_cast<uint32_t>(scores.size());
  std::vector<uint32_t> order;
  std::vector<uint32_t> chosen;
  for (uint32_t t = 0; t < tokens; ++t) {
    const bool forced =
        tokens <= options.budget || t < options.sinks || t >= tokens - options.recent;
    (forced ? chosen : order).push_back(t);
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const bool a_number = !std::isnan(scores[a]);
    const bool b_number = !std::isnan(scores[b]);
    if (a_number != b_number) return a_number;
    if (a_number && scores[a] != scores[b]) return scores[a] > scores[b];
    return a > b;
  });
  const size_t wanted = std::min<size_t>(options.budget - chosen.size(), order.size());
  if (tokens > options.budget)
    chosen.insert(chosen.end(), order.begin(), order.begin() + static_cast<ptrdiff_t>(wanted));
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

// out: [group][head_dim]; weights: [group][rows].
struct Attention {
  std::vector<double> out;
  std::vector<double> weights;
};
inline Attention Fac(const FacParams& params, const std::vector<const std::byte*>& rows) {
  Attention result;
  const HeadShape& shape = params.shape;
  for (int h = 0; h < params.group; ++h) {
    const float* query = params.queries + h * shape.head_dim;
    std::vector<double> out(shape.head_dim, 0.0);
    std::vector<double> logits;
    for (const std::byte* row : rows) {
      double dot = 0;
      for (size_t i = 0; i < shape.head_dim; ++i) {
        dot += double{query[i]} * Element(row, shape.dtype, i);
      }
      logits.push_back(dot * params.scale);
    }
    const std::vector<double> weights = Softmax(logits);
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t i = 0; i < shape.head_dim; ++i) {
        out[i] += weights[r] * Element(rows[r] + shape.key_bytes(), shape.dtype, i);
      }
    }
    result.out.insert(result.out.end(), out.begin(), out.end());
    result.weights.insert(result.weights.end(), weights.begin(), weights.end());
  }
  return result;
}

}  // namespace passband::kernels::reference
