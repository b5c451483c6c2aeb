// ReplyJob: a request that was accepted, with its rows pinned, on its way to becoming a reply.
//
// Each kind says how some of its rows become bytes of the reply; reply_queue.h does the rest.
//
// Units      rows; bytes of the reply a row.
// Threads    its data thread.
// Ownership  holds a claim on every block it reads and, once admitted, on its staging buffer,
//            both until the reply is sent.
#pragma once

#include <cstddef>
#include <memory>

#include "kvstore/pinned_rows.h"
#include "services/server/request.h"
#include "services/server/staging.h"

namespace passband::server {

class ReplyJob {
 public:
  virtual ~ReplyJob();
  ReplyJob(const ReplyJob&) = delete;
  ReplyJob& operator=(const ReplyJob&) = delete;

  // Writes rows [first, first + count) of the reply to `out`.
  virtual void Fill(size_t first, size_t count, std::byte* out) const = 0;
  // All rows are in staged().
  virtual void NoteFilled() {}
  // The reply was sent whole.
  virtual void CountSent() const = 0;

  size_t row_count() const { return row_count_; }
  size_t row_bytes() const { return row_bytes_; }
  size_t bytes() const { return row_count() * row_bytes_; }

  // Gives it the memory for its bytes(), which its connection answers for until it ends.
  void Stage(Staging::Buffer buffer);
  std::span<std::byte> staged() const { return buffer_.bytes(); }

  Request request;
  size_t filled = 0;  // rows

 protected:
  ReplyJob(Request for_request, size_t row_count, size_t row_bytes)
      : request(std::move(for_request)), row_count_(row_count), row_bytes_(row_bytes) {}

  const size_t row_count_;
  const size_t row_bytes_;

 private:
  Staging::Buffer buffer_;
  std::shared_ptr<Connection> staged_for_;
};

// FETCH and READ: rows as they are stored.
class GatherJob final : public ReplyJob {
 public:
  GatherJob(Request for_request, PinnedRows rows, size_t row_bytes);
  void Fill(size_t first, size_t count, std::byte* out) const override;
  void CountSent() const override;

 private:
  const PinnedRows rows_;
  ThreadCounters& counters_;
  const Transport transport_;
  const Method method_;
};

}  // namespace passband::server
