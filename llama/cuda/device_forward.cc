#include "llama/device_forward.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/layer_math.h"
#include "kernels/cuda/product.h"
#include "llama/cuda/device_weights.h"
#include "llama/layer_math.h"

namespace passband {
namespace {

namespace gpu = kernels::cuda;
using gpu::Elements;
using gpu::Memory;
using kernels::DType;

// Positions whose products are made at a time, so that a layer's widest activations stay
// small for any prompt.
constexpr uint32_t kBlockRows = 2048;

Status CheckModel(const LlamaConfig& config) {
  if (config.kv_dtype != DType::kBf16) {
    return Error(StatusCode::kUnimplemented,
                 "on a GPU rows are bf16; the checkpoint's torch_dtype is another");
  }
  return OkStatus();
}

// Device memory that grows to the largest size asked for.
class Buffer {
 public:
  Status Reserve(size_t bytes, uint64_t& held) {
    if (memory_.bytes() >= bytes) return OkStatus();
    held -= memory_.bytes();
    memory_ = Memory();
    auto memory = Memory::Allocate(bytes);
    if (!memory.ok()) {
      return Annotate(memory.status(),
                      fmt::format("activations, beside {} bytes of the model on the device", held));
    }
    memory_ = *std::move(memory);
    held += bytes;
    return OkStatus();
  }
  template <class T = float>
  T* data() const {
    return memory_.data<T>();
  }

 private:
  Memory memory_;
};

struct Positions {
  std::vector<uint32_t> tokens;
  std::vector<uint32_t> positions;
  std::vector<uint32_t> item_first;
  std::vector<uint32_t> item_count;

  explicit Positions(std::span<const BatchItem> batch) {
    for (const BatchItem& item : batch) {
      const auto first = static_cast<uint32_t>(tokens.size());
      const auto count = static_cast<uint32_t>(item.token_ids.size());
      tokens.insert(tokens.end(), item.token_ids.begin(), item.token_ids.end());
      for (uint32_t i = 0; i < count; ++i) {
        positions.push_back(static_cast<uint32_t>(item.first_position) + i);
        item_first.push_back(first);
        item_count.push_back(count);
      }
    }
  }
  uint32_t rows() const { return static_cast<uint32_t>(tokens.size()); }
};

}  // namespace

struct DeviceForward::Impl {
  LlamaConfig config;
  gpu::Stream stream;
  DeviceWeights weights;
  std::unique_ptr<gpu::Products> products;
  Memory frequencies;
  uint64_t held = 0;

  Buffer numbers;  // tokens, positions, item_first, item_count: [4][rows]
  Buffer hidden, queries, rows, attended, normed, qkv, gate_up, inner, last, logits, best;
  std::vector<AttendItem> items;

  uint32_t query_width() const { return config.q_heads * config.head_dim; }
  uint32_t qkv_width() const { return (config.q_heads + 2 * config.kv_heads) * config.head_dim; }
  // What products take: floats as they are, else rounded into `scratch`.
  Elements Input(const Buffer& buffer, size_t at) const {
    return {buffer.data<std::byte>() + at * kernels::DTypeBytes(weights.dtype), weights.dtype};
  }

  static StatusOr<std::unique_ptr<Impl>> Make(const LlamaConfig& config);
  Status Finish();
  Status Reserve(uint32_t count, uint32_t wanted);
  Status Begin(std::span<const BatchItem> batch, const Positions& positions);
  Status Multiply(const DeviceLinear& linear, Elements in, uint32_t count, float* out, bool add);
  Status Project(const DeviceLayer& layer, uint32_t count);
  Status FinishLayer(const DeviceLayer& layer, uint32_t count);
  Status FinishBlock(const DeviceLayer& layer, uint32_t first, uint32_t count);
  // Leaves logits of the asked positions on the device, and says how many.
  StatusOr<uint32_t> Run(std::span<const BatchItem> batch, AttentionBackend& backend);
};

StatusOr<std::unique_ptr<DeviceForward::Impl>> DeviceForward::Impl::Make(
    const LlamaConfig& config) {
  PASSBAND_RETURN_IF_ERROR(CheckModel(config));
  if (const auto device = gpu::CurrentDevice(); !device.ok()) {
    return Error(StatusCode::kFailedPrecondition,
                 "{}: a GPU and a driver for CUDA 13 are needed (580 or newer; nvidia-smi shows "
                 "both), or use --device cpu",
                 Message(device.status()));
  }
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  PASSBAND_ASSIGN_OR_RETURN(impl->stream, gpu::Stream::Create());
  PASSBAND_ASSIGN_OR_RETURN(impl->products, gpu::Products::Create(impl->stream.handle()));
  const std::vector<float> frequencies = RopeFrequencies(config.rope);
  PASSBAND_ASSIGN_OR_RETURN(impl->frequencies, Memory::Allocate(frequencies.size() * 4));
  PASSBAND_RETURN_IF_ERROR(
      impl->frequencies.CopyIn(frequencies.data(), frequencies.size() * 4, impl->stream.handle()));
  return impl;
}

Status DeviceForward::Impl::Finish() {
  held += weights.bytes;
  return stream.Synchronize();
}

Status DeviceForward::Impl::Reserve(uint32_t count, uint32_t wanted) {
  const size_t block = std::min(count, kBlockRows);
  const size_t n = count;
  const size_t width = config.hidden_size;
  const size_t widest = std::max<size_t>(width, query_width());
  PASSBAND_RETURN_IF_ERROR(numbers.Reserve(n * 16, held));
  PASSBAND_RETURN_IF_ERROR(hidden.Reserve(n * width * 4, held));
  PASSBAND_RETURN_IF_ERROR(queries.Reserve(n * query_width() * 4, held));
  PASSBAND_RETURN_IF_ERROR(attended.Reserve(n * query_width() * 4, held));
  PASSBAND_RETURN_IF_ERROR(rows.Reserve(n * config.layer_row_bytes(), held));
  PASSBAND_RETURN_IF_ERROR(normed.Reserve(block * widest * 4, held));
  PASSBAND_RETURN_IF_ERROR(qkv.Reserve(n * qkv_width() * 4, held));
  PASSBAND_RETURN_IF_ERROR(gate_up.Reserve(block * 2 * config.intermediate_size * 4, held));
  PASSBAND_RETURN_IF_ERROR(inner.Reserve(block * config.intermediate_size * 4, held));
  const size_t asked = std::max(wanted, 1U);
  PASSBAND_RETURN_IF_ERROR(last.Reserve(asked * width * 4, held));
  PASSBAND_RETURN_IF_ERROR(best.Reserve(asked * 4, held));
  return logits.Reserve(asked * config.vocab_size * 4, held);
}

Status DeviceForward::Impl::Begin(std::span<const BatchItem> batch, const Positions& positions) {
  const uint32_t count = positions.rows();
  std::vector<uint32_t> all;
  for (const auto* part :
       {&positions.tokens, &positions.positions, &positions.item_first, &positions.item_count}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  PASSBAND_RETURN_IF_ERROR(
      gpu::CopyToDevice(numbers.data<void>(), all.data(), all.size() * 4, stream.handle()));
  items.clear();
  size_t first = 0;
  for (const BatchItem& item : batch) {
    items.push_back({.handle = item.handle,
                     .first_position = item.first_position,
                     .count = static_cast<uint32_t>(item.token_ids.size()),
                     .queries = queries.data() + first * query_width(),
                     .rows = rows.data<std::byte>() + first * config.layer_row_bytes(),
                     .out = attended.data() + first * query_width()});
    first += item.token_ids.size();
  }
  return gpu::Embed({weights.embedding.weight.data(), weights.dtype}, numbers.data<uint32_t>(),
                    count, config.hidden_size, hidden.data(), stream.handle());
}

Status DeviceForward::Impl::Multiply(const DeviceLinear& linear, Elements in, uint32_t count,
                                     float* out, bool add) {
  PASSBAND_RETURN_IF_ERROR(products->Multiply({.rows = count,
                                               .inputs = linear.inputs,
                                               .outputs = linear.outputs,
                                               .dtype = weights.dtype,
                                               .in = in.data,
                                               .weight = linear.weight.data(),
                                               .out = out,
                                               .add = add}));
  if (linear.bias.bytes() == 0) return OkStatus();
  return gpu::AddBias(linear.bias.data<float>(), count, linear.outputs, out, stream.handle());
}

Status DeviceForward::Impl::Project(const DeviceLayer& layer, uint32_t count) {
  for (uint32_t first = 0; first < count; first += kBlockRows) {
    const uint32_t block = std::min(kBlockRows, count - first);
    const Elements in = Input(normed, 0);
    PASSBAND_RETURN_IF_ERROR(gpu::RmsNorm(hidden.data() + size_t{first} * config.hidden_size,
                                          layer.attention_norm.data<float>(), config.rms_norm_eps,
                                          block, config.hidden_size, in, stream.handle()));
    PASSBAND_RETURN_IF_ERROR(
        Multiply(layer.qkv, in, block, qkv.data() + size_t{first} * qkv_width(), false));
  }
  const auto* words = numbers.data<uint32_t>();
  gpu::SplitArgs args;
  args.shape = config.head_shape();
  args.q_heads = config.q_heads;
  args.kv_heads = config.kv_heads;
  args.rows = count;
  args.qkv = qkv.data();
  args.frequencies = frequencies.data<float>();
  args.positions = words + count;
  args.item_first = words + 2 * size_t{count};
  args.item_count = words + 3 * size_t{count};
  args.queries = queries.data();
  args.out_rows = rows.data<std::byte>();
  return gpu::SplitAndRotate(args, stream.handle());
}

Status DeviceForward::Impl::FinishLayer(const DeviceLayer& layer, uint32_t count) {
  for (uint32_t first = 0; first < count; first += kBlockRows) {
    PASSBAND_RETURN_IF_ERROR(FinishBlock(layer, first, std::min(kBlockRows, count - first)));
  }
  return OkStatus();
}

Status DeviceForward::Impl::FinishBlock(const DeviceLayer& layer, uint32_t first, uint32_t count) {
  float* residual = hidden.data() + size_t{first} * config.hidden_size;
  const float* heads = attended.data() + size_t{first} * query_width();
  const Elements in = Input(normed, 0);
  PASSBAND_RETURN_IF_ERROR(gpu::Convert(heads, size_t{count} * query_width(), in, stream.handle()));
  PASSBAND_RETURN_IF_ERROR(Multiply(layer.output, in, count, residual, true));
  PASSBAND_RETURN_IF_ERROR(gpu::RmsNorm(residual, layer.mlp_norm.data<float>(), config.rms_norm_eps,
                                        count, config.hidden_size, in, stream.handle()));
  PASSBAND_RETURN_IF_ERROR(Multiply(layer.gate_up, in, count, gate_up.data(), false));
  const Elements activated = Input(inner, 0);
  PASSBAND_RETURN_IF_ERROR(gpu::SiluTimesUp(gate_up.data(), count, config.intermediate_size,
                                            activated, stream.handle()));
  return Multiply(layer.down, activated, count, residual, true);
}

StatusOr<uint32_t> DeviceForward::Impl::Run(std::span<const BatchItem> batch,
                                            AttentionBackend& backend) {
  const Positions positions(batch);
  uint32_t wanted = 0;
  for (const BatchItem& item : batch) wanted += item.logits;
  PASSBAND_RETURN_IF_ERROR(Reserve(positions.rows(), wanted));
  PASSBAND_RETURN_IF_ERROR(Begin(batch, positions));
  for (uint32_t i = 0; i < config.layers; ++i) {
    PASSBAND_RETURN_IF_ERROR(Project(weights.layers[i], positions.rows()));
    PASSBAND_RETURN_IF_ERROR(backend.Attend({.layer = i, .items = items}));
    PASSBAND_RETURN_IF_ERROR(FinishLayer(weights.layers[i], positions.rows()));
  }
  size_t end = 0;
  uint32_t done = 0;
  for (const BatchItem& item : batch) {
    end += item.token_ids.size();
    if (item.logits == 0) continue;
    PASSBAND_RETURN_IF_ERROR(gpu::RmsNorm(
        hidden.data() + (end - item.logits) * config.hidden_size, weights.norm.data<float>(),
        config.rms_norm_eps, item.logits, config.hidden_size,
        Input(last, size_t{done} * config.hidden_size), stream.handle()));
    done += item.logits;
  }
  if (wanted > 0) {
    PASSBAND_RETURN_IF_ERROR(
        Multiply(weights.output_head(), Input(last, 0), wanted, logits.data(), false));
  }
  return wanted;
}

DeviceForward::DeviceForward(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeviceForward::~DeviceForward() = default;

StatusOr<std::unique_ptr<DeviceForward>> DeviceForward::Create(const LlamaConfig& config,
                                                               const LlamaWeights& weights) {
  PASSBAND_ASSIGN_OR_RETURN(auto impl, Impl::Make(config));
  PASSBAND_ASSIGN_OR_RETURN(impl->weights, UploadWeights(config, weights, impl->stream.handle()));
  PASSBAND_RETURN_IF_ERROR(impl->Finish());
  return std::unique_ptr<DeviceForward>(new DeviceForward(std::move(impl)));
}

StatusOr<std::unique_ptr<DeviceForward>> DeviceForward::CreateRandom(const LlamaConfig& config,
                                                                     uint64_t seed) {
  PASSBAND_ASSIGN_OR_RETURN(auto impl, Impl::Make(config));
  PASSBAND_ASSIGN_OR_RETURN(impl->weights, RandomWeights(config, seed, impl->stream.handle()));
  PASSBAND_RETURN_IF_ERROR(impl->Finish());
  return std::unique_ptr<DeviceForward>(new DeviceForward(std::move(impl)));
}

StatusOr<Logits> DeviceForward::Forward(std::span<const BatchItem> batch,
                                        AttentionBackend& backend) {
  PASSBAND_ASSIGN_OR_RETURN(const uint32_t wanted, impl_->Run(batch, backend));
  Logits out;
  out.vocab_size = impl_->config.vocab_size;
  out.values.resize(size_t{wanted} * out.vocab_size);
  PASSBAND_RETURN_IF_ERROR(gpu::CopyToHost(out.values.data(), impl_->logits.data(),
                                           out.values.size() * 4, impl_->stream.handle()));
  PASSBAND_RETURN_IF_ERROR(impl_->stream.Synchronize());
  return out;
}

StatusOr<std::vector<uint32_t>> DeviceForward::ForwardGreedy(std::span<const BatchItem> batch,
                                                             AttentionBackend& backend) {
  PASSBAND_ASSIGN_OR_RETURN(const uint32_t wanted, impl_->Run(batch, backend));
  std::vector<uint32_t> out(wanted);
  auto* best = impl_->best.data<uint32_t>();
  PASSBAND_RETURN_IF_ERROR(gpu::ArgMax(impl_->logits.data(), wanted, impl_->config.vocab_size, best,
                                       impl_->stream.handle()));
  PASSBAND_RETURN_IF_ERROR(
      gpu::CopyToHost(out.data(), best, out.size() * 4, impl_->stream.handle()));
  PASSBAND_RETURN_IF_ERROR(impl_->stream.Synchronize());
  return out;
}

gpu::StreamHandle DeviceForward::stream() const { return impl_->stream.handle(); }
uint64_t DeviceForward::device_bytes() const { return impl_->held; }
uint64_t DeviceForward::parameters() const { return impl_->weights.parameters; }

}  // namespace passband
