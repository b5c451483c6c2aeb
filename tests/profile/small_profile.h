// SmallProfile: a profile of a tiny model, made up; the same every time.
//
// Threads  safe.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <string>

#include "profile/profile.h"

namespace passband {

inline Profile SmallProfile(kernels::SliceEncoding encoding = kernels::SliceEncoding::kInt2) {
  Profile profile;
  profile.model_name = "tiny";
  profile.fingerprint = {.architecture = std::string(64, 'a'), .weights = std::string(64, 'b')};
  profile.shape = {.head_dim = 32, .rotary_dim = 16};
  profile.layers = 2;
  profile.query_heads = 4;
  profile.kv_heads = 2;
  profile.encoding = encoding;
  profile.provenance = {.selector = "greedy", .pairing = "rope", .text_digest = "00"};
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 4; ++i) {
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = profile.shape;
    spec->encoding = encoding;
    spec->chunks = {1, 5, static_cast<uint16_t>(6 + i % 2)};
    for (int c = 0; c < 6; ++c) {
      spec->mean.push_back(normal(random));
      spec->deviation.push_back(0.1F + std::abs(normal(random)));
    }
    profile.specs.push_back(spec);
  }
  PASSBAND_CHECK(profile.Finish().ok());
  return profile;
}

}  // namespace passband
