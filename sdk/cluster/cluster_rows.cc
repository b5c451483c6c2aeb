#include "sdk/cluster/cluster_rows.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "sdk/remote_rows.h"

namespace passband {
namespace {

// How long several answers are polled for in turn, before each is waited for by itself.
constexpr auto kPollTogether = std::chrono::microseconds(500);

class ObservedRows final : public PendingRows {
 public:
  ObservedRows(std::shared_ptr<Session> session, SequenceId id,
               std::unique_ptr<PendingRows> pending)
      : session_(std::move(session)), id_(id), pending_(std::move(pending)) {}

  bool Ready() override { return pending_->Ready(); }

  StatusOr<std::span<const std::byte>> Wait() override {
    auto rows = pending_->Wait();
    if (std::exchange(observed_, true)) return rows;
    const Status told = session_->Observe(rows.status(), id_);
    if (!told.ok()) pending_ = FailedRows(told);
    return pending_->Wait();
  }

 private:
  const std::shared_ptr<Session> session_;  // before what came over it
  const SequenceId id_;
  std::unique_ptr<PendingRows> pending_;
  bool observed_ = false;
};

// A run of the answer that comes from one part.
struct Piece {
  size_t part = 0;
  size_t bytes = 0;
};

// One server's share of a fetch.
struct Part {
  std::shared_ptr<Session> session;
  SequenceId id;  // the first of its sequences, for errors
  std::vector<FetchGroup> groups;
  size_t bytes = 0;
  std::unique_ptr<PendingRows> pending;
};

class JoinedRows final : public PendingRows {
 public:
  JoinedRows(std::vector<std::unique_ptr<PendingRows>> parts, std::vector<Piece> pieces,
             size_t bytes)
      : parts_(std::move(parts)), pieces_(std::move(pieces)), bytes_(bytes) {}

  bool Ready() override {
    // Each is asked, for that is what moves it on.
    bool ready = true;
    for (const auto& part : parts_) ready &= part->Ready();
    return ready;
  }

  StatusOr<std::span<const std::byte>> Wait() override {
    if (!parts_.empty()) {
      status_ = Join();
      parts_.clear();
    }
    if (!status_.ok()) return status_;
    return std::span<const std::byte>(joined_.get(), bytes_);
  }

 private:
  Status Join() {
    const Time until = std::chrono::steady_clock::now() + kPollTogether;
    while (!Ready() && std::chrono::steady_clock::now() < until) {
    }
    std::vector<std::span<const std::byte>> rows;
    for (const auto& part : parts_) {
      PASSBAND_ASSIGN_OR_RETURN(rows.emplace_back(), part->Wait());
    }
    joined_ = std::make_unique_for_overwrite<std::byte[]>(bytes_);
    std::byte* next = joined_.get();
    for (const Piece& piece : pieces_) {
      auto& from = rows[piece.part];
      if (from.size() < piece.bytes) {
        return Error(StatusCode::kInternal, "part {} of a fetch is shorter than asked for",
                     piece.part);
      }
      std::memcpy(next, from.data(), piece.bytes);
      from = from.subspan(piece.bytes);
      next += piece.bytes;
    }
    return OkStatus();
  }

  std::vector<std::unique_ptr<PendingRows>> parts_;
  const std::vector<Piece> pieces_;
  const size_t bytes_;
  Status status_;
  std::unique_ptr<std::byte[]> joined_;
};

// Sorts the groups of a fetch by the servers of their sequences.
class Sorter {
 public:
  Sorter(const SessionBook& book, const FetchRequest& request) : book_(book), request_(request) {}

  Status Sort() {
    SequenceId last;
    size_t part = 0;
    for (const FetchGroup& group : request_.groups) {
      if (parts_.empty() || group.sequence != last) {
        PASSBAND_ASSIGN_OR_RETURN(part, PartOf(group.sequence));
        last = group.sequence;
      }
      const size_t bytes = group.tokens.size() * request_.row_bytes;
      FetchGroup& sent = parts_[part].groups.emplace_back(group);
      sent.sequence = Session::ToServer(group.sequence);
      parts_[part].bytes += bytes;
      if (!pieces_.empty() && pieces_.back().part == part) {
        pieces_.back().bytes += bytes;
      } else {
        pieces_.push_back({part, bytes});
      }
    }
    return OkStatus();
  }

  std::unique_ptr<PendingRows> Start() {
    size_t bytes = 0;
    std::vector<std::unique_ptr<PendingRows>> pending;
    for (size_t i = 0; i < parts_.size(); ++i) {
      Part& part = parts_[i];
      // What selection did is told once.
      auto rows = part.session->remote().StartFetch(
          {part.groups, request_.row_bytes, i == 0 ? request_.report : SelectionReport()});
      pending.push_back(ObserveRows(std::move(part.session), part.id, std::move(rows)));
      bytes += part.bytes;
    }
    if (pending.size() == 1) return std::move(pending[0]);
    return std::make_unique<JoinedRows>(std::move(pending), std::move(pieces_), bytes);
  }

 private:
  StatusOr<size_t> PartOf(SequenceId id) {
    const uint32_t slot = Session::SlotOf(id);
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i].session->slot() == slot) return i;
    }
    PASSBAND_ASSIGN_OR_RETURN(auto session, book_.Find(id));
    PASSBAND_RETURN_IF_ERROR(session->Admit(id));
    parts_.push_back({.session = std::move(session), .id = id, .groups = {}, .pending = {}});
    return parts_.size() - 1;
  }

  const SessionBook& book_;
  const FetchRequest& request_;
  std::vector<Part> parts_;
  std::vector<Piece> pieces_;
};

}  // namespace

std::unique_ptr<PendingRows> ObserveRows(std::shared_ptr<Session> session, SequenceId id,
                                         std::unique_ptr<PendingRows> pending) {
  return std::make_unique<ObservedRows>(std::move(session), id, std::move(pending));
}

std::unique_ptr<PendingRows> StartClusterFetch(const SessionBook& book,
                                               const FetchRequest& request) {
  Sorter sorter(book, request);
  if (const Status sorted = sorter.Sort(); !sorted.ok()) return FailedRows(sorted);
  return sorter.Start();
}

}  // namespace passband
