// append, fetch, read and slices of the class Service.
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <vector>

#include "src/arrays.h"
#include "src/row_packing.h"
#include "src/rows.h"
#include "src/service.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace passband::python {
namespace {

constexpr uint64_t kBlockTokens = 64;

// Keys or values that are [kv_heads, tokens, head_dim], or with tokens first.
HeadTokens CheckHeads(const ArrayView& view, const ModelInfo& model, bool tokens_first,
                      const char* name, uint64_t& tokens) {
  CheckElements(view, model.head.dtype, name);
  const char* wanted =
      tokens_first ? "[tokens, kv_heads, head_dim]" : "[kv_heads, tokens, head_dim]";
  const size_t head_axis = tokens_first ? 1 : 0;
  if (view.shape.size() != 3 || view.shape[head_axis] != model.kv_heads ||
      view.shape[2] != model.head.head_dim) {
    throw StatusError(Error(StatusCode::kInvalidArgument,
                            "{} has shape {}; {} is wanted, with {} kv heads of {} (see layout=)",
                            name, view.ShapeText(), wanted, model.kv_heads, model.head.head_dim),
                      Reason::kArray);
  }
  if (view.shape[2] > 1 && view.strides[2] != view.element_bytes()) {
    throw StatusError(Error(StatusCode::kInvalidArgument,
                            "{}: the numbers of one head are not contiguous; pass "
                            "{}.contiguous(), or np.ascontiguousarray({})",
                            name, name, name),
                      Reason::kArray);
  }
  tokens = static_cast<uint64_t>(view.shape[1 - head_axis]);
  return {view.data, view.strides[head_axis], view.strides[1 - head_axis]};
}

uint64_t Append(const Service& service, const ModelInfo& model, uint64_t sequence, uint32_t layer,
                uint64_t first, nb::handle keys, nb::handle values, bool tokens_first) {
  const ArrayView key_view = ViewArray(keys, "keys");
  const ArrayView value_view = ViewArray(values, "values");
  uint64_t tokens = 0;
  uint64_t value_tokens = 0;
  const HeadTokens key_rows = CheckHeads(key_view, model, tokens_first, "keys", tokens);
  const HeadTokens value_rows = CheckHeads(value_view, model, tokens_first, "values", value_tokens);
  if (tokens != value_tokens) {
    throw StatusError(Error(StatusCode::kInvalidArgument, "keys of {} tokens, values of {}", tokens,
                            value_tokens),
                      Reason::kArray);
  }
  const auto held = service.Get();
  const nb::gil_scoped_release others;
  const size_t row_bytes = model.head.row_bytes();
  std::vector<std::byte> rows(model.kv_heads * kBlockTokens * row_bytes);
  for (uint64_t done = 0; done < tokens;) {
    const uint64_t at = first + done;
    const uint64_t count = std::min(kBlockTokens - at % kBlockTokens, tokens - done);
    PackRows(key_rows, value_rows, model.kv_heads, model.head.key_bytes(), done, count,
             rows.data());
    Check(held->Append({.sequence = SequenceId(sequence),
                        .layer = layer,
                        .first_token = at,
                        .count = static_cast<uint32_t>(count),
                        .rows = std::span(rows).first(model.kv_heads * count * row_bytes)}));
    done += count;
  }
  return tokens;
}

// groups: [(sequence, layer, kv_head, tokens), ...]
std::unique_ptr<Landing> Fetch(const Service& service, nb::sequence groups, uint32_t row_bytes) {
  std::vector<std::vector<uint32_t>> tokens;
  std::vector<FetchGroup> wanted;
  for (const nb::handle group : groups) {
    tokens.push_back(ViewTokens(group[3], "tokens"));
    wanted.push_back({.sequence = SequenceId(nb::cast<uint64_t>(group[0])),
                      .layer = nb::cast<uint32_t>(group[1]),
                      .kv_head = nb::cast<uint32_t>(group[2]),
                      .tokens = {}});
  }
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i].tokens = tokens[i];
  auto held = service.Get();
  const nb::gil_scoped_release others;
  auto pending = held->StartFetch({.groups = wanted, .row_bytes = row_bytes, .report = {}});
  return std::make_unique<Landing>(std::move(held), std::move(pending));
}

RangeRequest RangeOf(uint64_t sequence, uint32_t layer, uint64_t first, uint64_t count) {
  return {.sequence = SequenceId(sequence), .layer = layer, .first_token = first, .count = count};
}

std::unique_ptr<Landing> Read(const Service& service, uint64_t sequence, uint32_t layer,
                              uint64_t first, uint64_t count) {
  auto held = service.Get();
  const nb::gil_scoped_release others;
  auto pending = held->StartRead(RangeOf(sequence, layer, first, count));
  return std::make_unique<Landing>(std::move(held), std::move(pending));
}

std::unique_ptr<Landing> Slices(const Service& service, uint64_t sequence, uint32_t layer,
                                uint64_t first, uint64_t count,
                                const std::shared_ptr<Profile>& profile) {
  auto held = service.Get();
  const nb::gil_scoped_release others;
  auto pending = held->StartSlices(RangeOf(sequence, layer, first, count), profile);
  return std::make_unique<Landing>(std::move(held), std::move(pending));
}

}  // namespace

void BindRowCalls(nb::class_<Service>& service) {
  service
      .def("append", &Append, "model"_a, "sequence"_a, "layer"_a, "first"_a, "keys"_a.none(),
           "values"_a.none(), "tokens_first"_a)
      .def("fetch", &Fetch, "groups"_a, "row_bytes"_a)
      .def("read", &Read, "sequence"_a, "layer"_a, "first"_a, "count"_a)
      .def("slices", &Slices, "sequence"_a, "layer"_a, "first"_a, "count"_a, "profile"_a);
}

}  // namespace passband::python
