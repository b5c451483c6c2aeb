#include "services/server/append_service.h"

#include <utility>

#include "base/hash.h"

namespace passband::server {
namespace {

constexpr std::chrono::milliseconds kRetryAfter{5};

}  // namespace

// One append while its rows arrive.
struct AppendService::Append {
  // Checks and publishes `rows`, then answers. `scattered`: they are not in their block yet.
  void Finish(std::span<const std::byte> rows, bool scattered);
  void Fail(const Status& why) { request.Fail(why); }

  Request request;
  transport::AppendHeader header;
  Store::AppendSlot slot;
  Staging::Buffer buffer;
};

void AppendService::Append::Finish(std::span<const std::byte> rows, bool scattered) {
  if (Checksum(rows) != header.checksum) {
    return Fail(Error(StatusCode::kDataLoss, "append to sequence {}, layer {}: wrong checksum",
                      header.sequence, header.layer));
  }
  if (const Status alive = request.CheckAlive(std::chrono::steady_clock::now()); !alive.ok()) {
    return Fail(alive);
  }
  if (scattered) slot.Scatter(rows.data());
  if (const Status committed = slot.Commit(); !committed.ok()) return Fail(committed);
  ThreadCounters& counters = request.connection().counters();
  counters.rows[Index(Method::kAppend)].Add(uint64_t{header.count} * header.kv_heads);
  counters.appended_bytes[Index(request.connection().transport())].Add(rows.size());
  request.Reply({}, uint64_t{header.count} * header.kv_heads, nullptr, [](const Status&) {});
}

void AppendService::Serve(Request request, const transport::AppendHeader& header,
                          IncomingPayload& payload) {
  StatusOr<Store::AppendSlot> slot = Reserve(request.tenant(), header);
  if (!slot.ok()) {
    payload.Refuse(slot.status());
    return request.Fail(slot.status());
  }
  auto append = std::make_shared<Append>(
      Append{std::move(request), header, *std::move(slot), Staging::Buffer()});
  if (append->slot.covers_block()) return ReceiveIntoBlock(std::move(append), payload);
  if (!payload.waits()) return append->Finish(payload.data(), /*scattered=*/true);
  ReceiveIntoStaging(std::move(append), payload);
}

StatusOr<Store::AppendSlot> AppendService::Reserve(const std::string& tenant,
                                                   const transport::AppendHeader& append) {
  const SequenceId id{append.sequence};
  PASSBAND_ASSIGN_OR_RETURN(const KvShape shape, store_.ShapeOf(tenant, id));
  if (append.row_bytes != shape.row_bytes || append.kv_heads != shape.kv_heads) {
    return Error(StatusCode::kInvalidArgument,
                 "sequence {} has {} kv heads with rows of {} bytes, not {} with {}", id,
                 shape.kv_heads, shape.row_bytes, append.kv_heads, append.row_bytes);
  }
  MissingBlocks missing;
  PASSBAND_ASSIGN_OR_RETURN(
      Store::AppendSlot slot,
      store_.BeginAppend(tenant, id, append.layer, append.first_token, append.count, missing));
  if (slot) return slot;
  restores_.Promote(missing);
  return WithRetryAfter(
      Error(StatusCode::kResourceExhausted,
            "sequence {}, layer {}: the block of token {} is shared, and on its way back to RAM "
            "to be copied",
            id, append.layer, append.first_token),
      kRetryAfter);
}

void AppendService::ReceiveIntoBlock(std::shared_ptr<Append> append, IncomingPayload& payload) {
  const std::span<std::byte> block(append->slot.block(), append->slot.bytes());
  payload.Receive(block, arena_, [append = std::move(append), block](const Status& received) {
    if (!received.ok()) return append->Fail(received);
    append->Finish(block, /*scattered=*/false);
  });
}

void AppendService::ReceiveIntoStaging(std::shared_ptr<Append> append, IncomingPayload& payload) {
  auto buffer = staging_.Allocate(payload.bytes());
  if (!buffer.has_value()) {
    const Status full = WithRetryAfter(
        Error(StatusCode::kResourceExhausted, "all {} bytes of staging memory are in use",
              staging_.capacity_bytes()),
        kRetryAfter);
    payload.Refuse(full);
    return append->Fail(full);
  }
  append->buffer = *std::move(buffer);
  const std::span<std::byte> bytes = append->buffer.bytes();
  payload.Receive(bytes, staging_.memory(),
                  [append = std::move(append), bytes](const Status& received) {
                    if (!received.ok()) return append->Fail(received);
                    append->Finish(bytes, /*scattered=*/true);
                  });
}

}  // namespace passband::server
