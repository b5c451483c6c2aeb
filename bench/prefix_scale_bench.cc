// prefix_scale_bench [--sequences N] [--prompt N] ...: many sequences over one prompt.
//
// One sequence is given the prompt's rows; the others open over the same token ids, or fork from
// it. Prints what each costs: time, RAM for rows, and memory of the process for what the store
// knows of it; and, last, a line of JSON.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/units.h"
#include "bench/percentile.h"
#include "kvstore/store.h"
#include "nlohmann/json.hpp"

namespace passband::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kTenant[] = "bench";

struct Options {
  uint64_t sequences = 10'000;
  uint64_t prompt = 8192;
  uint32_t layers = 32;
  uint32_t kv_heads = 8;
  uint32_t row_bytes = 16;  // small: what is measured does not depend on it
};

double Micros(Clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

// What the process has allocated and not freed. The arena, a mapping of its own, is no part of it.
uint64_t AllocatedBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

struct Figures {
  std::string way;
  double p50_us = 0, p99_us = 0, total_s = 0, close_us = 0;
  double row_bytes = 0, known_bytes = 0;  // of each sequence but the first
};

class Scale {
 public:
  explicit Scale(const Options& options)
      : options_(options), shape_{options.layers, options.kv_heads, options.row_bytes} {}

  Status Prepare() {
    const uint64_t column = shape_.layers * shape_.block_bytes();
    const uint64_t prompt = (options_.prompt / kBlockTokens) * column;
    PASSBAND_ASSIGN_OR_RETURN(
        store_, Store::Create({.arena = {.bytes = 2 * prompt + 64 * kMiB, .huge_pages = false},
                               .max_sequences = options_.sequences + 1}));
    PASSBAND_RETURN_IF_ERROR(
        store_->RegisterModel({.fingerprint = "m", .name = "bench", .shape = shape_}));
    for (uint64_t i = 0; i < options_.prompt; ++i) {
      ids_.push_back(static_cast<uint32_t>(i * 2654435761));
    }
    PASSBAND_ASSIGN_OR_RETURN(first_, Open());
    for (uint64_t at = 0; at + kBlockTokens <= options_.prompt; at += kBlockTokens) {
      for (uint32_t layer = 0; layer < shape_.layers; ++layer) {
        PASSBAND_ASSIGN_OR_RETURN(auto slot,
                                  store_->BeginAppend(kTenant, first_, layer, at, kBlockTokens));
        const std::vector<std::byte> rows(slot.bytes(), std::byte{1});
        slot.Scatter(rows.data());
        PASSBAND_RETURN_IF_ERROR(slot.Commit());
      }
    }
    return OkStatus();
  }

  // `make` -> StatusOr<SequenceId>.
  template <typename Make>
  StatusOr<Figures> Measure(const std::string& way, Make make) {
    std::vector<SequenceId> ids;
    std::vector<double> times;
    ids.reserve(options_.sequences);
    times.reserve(options_.sequences);
    const uint64_t rows_before = store_->Stats().used_bytes;
    const uint64_t known_before = AllocatedBytes();
    const auto start = Clock::now();
    for (uint64_t i = 1; i < options_.sequences; ++i) {
      const auto begin = Clock::now();
      PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, make());
      times.push_back(Micros(Clock::now() - begin));
      ids.push_back(id);
    }
    Figures out{.way = way, .total_s = Micros(Clock::now() - start) * 1e-6};
    const auto count = static_cast<double>(ids.size());
    out.row_bytes = static_cast<double>(store_->Stats().used_bytes - rows_before) / count;
    out.known_bytes = static_cast<double>(AllocatedBytes() - known_before) / count;
    const auto closing = Clock::now();
    for (const SequenceId id : ids) PASSBAND_RETURN_IF_ERROR(store_->Close(kTenant, id));
    out.close_us = Micros(Clock::now() - closing) / count;
    out.p50_us = Percentile(times, 0.50);
    out.p99_us = Percentile(times, 0.99);
    return out;
  }

  StatusOr<Figures> Opened() {
    return Measure("open", [this] { return Open(); });
  }
  StatusOr<Figures> Forked() {
    return Measure("fork", [this] {
      return store_->Fork(kTenant, first_, options_.prompt / kBlockTokens * kBlockTokens,
                          OwnerId(1));
    });
  }
  uint64_t prompt_bytes() const { return store_->Stats().used_bytes; }

 private:
  StatusOr<SequenceId> Open() {
    PASSBAND_ASSIGN_OR_RETURN(
        const auto opened,
        store_->Open({.tenant = kTenant, .model = "m", .owner = OwnerId(1), .token_ids = ids_}));
    return opened.id;
  }

  const Options options_;
  const KvShape shape_;
  std::unique_ptr<Store> store_;
  std::vector<uint32_t> ids_;
  SequenceId first_;
};

Status Run(const Options& options) {
  nlohmann::ordered_json json = {{"bench", "prefix_scale"},
                                 {"sequences", options.sequences},
                                 {"prompt", options.prompt},
                                 {"layers", options.layers},
                                 {"ways", nlohmann::ordered_json::array()}};
  std::printf("%llu sequences over a prompt of %llu tokens, %u layers\n",
              static_cast<unsigned long long>(options.sequences),
              static_cast<unsigned long long>(options.prompt), options.layers);
  std::printf("%-6s %10s %10s %10s %10s %14s %16s\n", "way", "p50 us", "p99 us", "all s",
              "close us", "rows B/seq", "known B/seq");
  // Each in a store of its own.
  for (const bool fork : {false, true}) {
    Scale scale(options);
    PASSBAND_RETURN_IF_ERROR(scale.Prepare());
    PASSBAND_ASSIGN_OR_RETURN(const Figures way, fork ? scale.Forked() : scale.Opened());
    std::printf("%-6s %10.1f %10.1f %10.2f %10.1f %14.1f %16.0f\n", way.way.c_str(), way.p50_us,
                way.p99_us, way.total_s, way.close_us, way.row_bytes, way.known_bytes);
    json["prompt_bytes"] = scale.prompt_bytes();
    json["ways"].push_back({{"way", way.way},
                            {"p50_us", way.p50_us},
                            {"p99_us", way.p99_us},
                            {"total_s", way.total_s},
                            {"close_us", way.close_us},
                            {"row_bytes", way.row_bytes},
                            {"known_bytes", way.known_bytes}});
  }
  std::printf("%s\n", json.dump().c_str());
  return OkStatus();
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) {
  passband::bench::Options options;
  CLI::App app("Many sequences over one prompt: time and memory of each");
  app.add_option("--sequences", options.sequences, "How many")->check(CLI::Range(2, 10'000'000));
  app.add_option("--prompt", options.prompt, "Tokens that they share");
  app.add_option("--layers", options.layers, "Of the model");
  CLI11_PARSE(app, argc, argv);
  const passband::Status status = passband::bench::Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "prefix_scale_bench: %s\n", passband::Message(status).c_str());
  return 1;
}
