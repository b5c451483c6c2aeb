#include "llama/layer_math.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

namespace passband {
namespace {

// Outputs [first, first + count) of the product.
void MultiplyPart(const Linear& linear, const float* in, size_t rows, size_t first, size_t count,
                  float* out) {
  const auto inputs = static_cast<blasint>(linear.inputs);
  const float* weight = linear.weight.data() + first * linear.inputs;
  // With biases the product is added to them.
  const float beta = linear.bias.empty() ? 0.0F : 1.0F;
  if (!linear.bias.empty()) {
    for (size_t r = 0; r < rows; ++r) {
      std::copy_n(linear.bias.data() + first, count, out + r * linear.outputs + first);
    }
  }
  if (rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, static_cast<blasint>(count), inputs, 1.0F, weight,
                inputs, in, 1, beta, out + first, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(rows),
              static_cast<blasint>(count), inputs, 1.0F, in, inputs, weight, inputs, beta,
              out + first, static_cast<blasint>(linear.outputs));
}

// Llama 3: low frequencies are slowed by `factor`, high ones kept, those
// between are mixed.
double Llama3Frequency(const RopeConfig& rope, double frequency) {
  const double wavelength = 2 * M_PI / frequency;
  const double low_wavelength = rope.original_positions / rope.low_freq_factor;
  const double high_wavelength = rope.original_positions / rope.high_freq_factor;
  if (wavelength < high_wavelength) return frequency;
  if (wavelength > low_wavelength) return frequency / rope.factor;
  const double mix = (rope.original_positions / wavelength - rope.low_freq_factor) /
                     (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - mix) * frequency / rope.factor + mix * frequency;
}

}  // namespace

void Multiply(const Linear& linear, const float* in, size_t rows, float* out, WorkerPool* pool) {
  if (rows == 0) return;
  if (pool == nullptr) {
    MultiplyPart(linear, in, rows, 0, linear.outputs, out);
    return;
  }
  const auto parts = static_cast<size_t>(pool->threads());
  pool->Run(parts, [&](size_t part) {
    const size_t first = linear.outputs * part / parts;
    const size_t end = linear.outputs * (part + 1) / parts;
    if (end > first) MultiplyPart(linear, in, rows, first, end - first, out);
  });
}

void RmsNorm(const std::vector<float>& weight, double eps, const float* in, size_t rows,
             float* out) {
  const size_t width = weight.size();
  for (size_t r = 0; r < rows; ++r, in += width, out += width) {
    const float squares = cblas_sdot(static_cast<blasint>(width), in, 1, in, 1);
    const float factor =
        static_cast<float>(1.0 / std::sqrt(static_cast<double>(squares) / width + eps));
    for (size_t i = 0; i < width; ++i) out[i] = in[i] * factor * weight[i];
  }
}

void SiluTimesUp(const float* gate_up, size_t rows, size_t inner, float* out) {
  for (size_t r = 0; r < rows; ++r, out += inner) {
    const float* gate = gate_up + r * 2 * inner;
    const float* up = gate + inner;
    for (size_t i = 0; i < inner; ++i) out[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
  }
}

void AddTo(const float* b, size_t count, float* a) {
  for (size_t i = 0; i < count; ++i) a[i] += b[i];
}

std::vector<float> RopeFrequencies(const RopeConfig& rope) {
  std::vector<float> out(rope.rotary_dim / 2);
  for (size_t i = 0; i < out.size(); ++i) {
    const double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / rope.rotary_dim);
    switch (rope.scaling) {
      case RopeScaling::kNone:
        out[i] = static_cast<float>(frequency);
        break;
      case RopeScaling::kLinear:
        out[i] = static_cast<float>(frequency / rope.factor);
        break;
      case RopeScaling::kLlama3:
        out[i] = static_cast<float>(Llama3Frequency(rope, frequency));
        break;
    }
  }
  return out;
}

RopeAngles AnglesAt(const std::vector<float>& frequencies, uint64_t position) {
  RopeAngles out;
  for (const float frequency : frequencies) {
    // The angle is rounded to float before cos and sin, as checkpoints were trained.
    const float angle = static_cast<float>(position) * frequency;
    out.cos.push_back(std::cos(angle));
    out.sin.push_back(std::sin(angle));
  }
  return out;
}

void Rotate(const RopeAngles& angles, size_t heads, size_t head_dim, float* values) {
  const size_t half = angles.cos.size();
  for (size_t head = 0; head < heads; ++head, values += head_dim) {
    for (size_t i = 0; i < half; ++i) {
      const float first = values[i];
      const float second = values[half + i];
      values[i] = first * angles.cos[i] - second * angles.sin[i];
      values[half + i] = second * angles.cos[i] + first * angles.sin[i];
    }
  }
}

}  // namespace passband
