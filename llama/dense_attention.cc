#include "llama/dense_attention.h"

#include <cblas.h>

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "kernels/dtype.h"
#include "llama/softmax_tile.h"

namespace passband {
namespace {

constexpr uint32_t kTilePositions = 64;
constexpr uint64_t kTileKeys = 512;

// Attention of one kv head's query group at up to kTilePositions positions.
// Tile row r is position r / group, query head r % group of the group: the
// queries of one position and group lie one after the other already.
class QueryTile {
 public:
  QueryTile(const DenseAttentionArgs& args, uint32_t kv_head, uint32_t first, uint32_t count)
      : args_(args),
        kv_head_(kv_head),
        first_(first),
        group_(args.q_heads / args.head_rows.size()),
        rows_(group_ * count),
        dim_(args.shape.head_dim),
        queries_(rows_ * dim_),
        out_(rows_ * dim_, 0.0F),
        softmax_(rows_),
        scores_(rows_ * kTileKeys),
        pairs_(kTileKeys * 2 * dim_) {}

  void Compute() {
    for (size_t p = 0; p * group_ < rows_; ++p) {
      std::copy_n(args_.queries + Offset(p), group_ * dim_, queries_.data() + p * group_ * dim_);
    }
    const uint64_t end = Position(rows_ - 1) + 1;
    for (uint64_t key = 0; key < end; key += kTileKeys) {
      AddKeys(key, std::min(kTileKeys, end - key));
    }
    for (size_t p = 0; p * group_ < rows_; ++p) WriteOut(p);
  }

 private:
  size_t Offset(size_t p) const {
    return ((first_ + p) * args_.q_heads + kv_head_ * group_) * dim_;
  }
  uint64_t Position(size_t row) const { return args_.first_position + first_ + row / group_; }

  void AddKeys(uint64_t key, uint64_t count) {
    const auto m = static_cast<blasint>(rows_);
    const auto n = static_cast<blasint>(count);
    const auto k = static_cast<blasint>(dim_);
    const auto ld = static_cast<blasint>(kTileKeys);
    // [K | V] pairs stay interleaved: the products step over the other half.
    kernels::DTypeToFloat(args_.head_rows[kv_head_] + key * args_.shape.row_bytes(),
                          count * 2 * dim_, args_.shape.dtype, pairs_.data());
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0F, queries_.data(), k,
                pairs_.data(), 2 * k, 0.0F, scores_.data(), ld);
    for (size_t row = 0; row < rows_; ++row) {
      const uint64_t visible = Position(row) + 1;
      const uint64_t valid = visible <= key ? 0 : std::min(count, visible - key);
      const float correction =
          SoftmaxStep(scores_.data() + row * kTileKeys, valid, count, args_.scale, softmax_[row]);
      ScaleRow(out_.data() + row * dim_, dim_, correction);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, n, 1.0F, scores_.data(), ld,
                pairs_.data() + dim_, 2 * k, 1.0F, out_.data(), k);
  }

  void WriteOut(size_t p) {
    for (size_t g = 0; g < group_; ++g) {
      const size_t row = p * group_ + g;
      ScaleRow(out_.data() + row * dim_, dim_, 1.0F / softmax_[row].sum);
      std::copy_n(out_.data() + row * dim_, dim_, args_.out + Offset(p) + g * dim_);
    }
  }

  const DenseAttentionArgs& args_;
  size_t kv_head_;
  size_t first_;
  size_t group_;
  size_t rows_;
  size_t dim_;
  std::vector<float> queries_;           // [rows][dim]
  std::vector<float> out_;               // [rows][dim]
  std::vector<RunningSoftmax> softmax_;  // [rows]
  std::vector<float> scores_;            // [rows][kTileKeys]
  std::vector<float> pairs_;             // [kTileKeys][K | V]
};

}  // namespace

void DenseCausalAttention(const DenseAttentionArgs& args, WorkerPool& pool) {
  const size_t heads = args.head_rows.size();
  PASSBAND_CHECK(heads > 0 && args.q_heads % heads == 0);
  const size_t tiles = (args.count + kTilePositions - 1) / kTilePositions;
  pool.Run(tiles * heads, [&](size_t job) {
    // Late positions cost most and go first, so that threads end together.
    const auto tile = static_cast<uint32_t>(tiles - 1 - job / heads);
    const uint32_t first = tile * kTilePositions;
    const uint32_t count = std::min(kTilePositions, args.count - first);
    QueryTile(args, static_cast<uint32_t>(job % heads), first, count).Compute();
  });
}

}  // namespace passband
