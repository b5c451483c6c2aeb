#include "services/cli/bench/bench_work.h"

#include <algorithm>
#include <deque>
#include <random>
#include <utility>

#include "base/clock.h"

namespace passband::bench {
namespace {

constexpr uint64_t kBlockTokens = 64;
constexpr size_t kWindows = 4;  // of slices under way, as a worker that attaches has

double Now() { return Seconds(RealClock().Now().time_since_epoch()); }

class FetchWork final : public BenchWork {
 public:
  FetchWork(const Plan& plan, uint64_t salt) : BenchWork(plan, salt), random_(salt) {}

 protected:
  // One layer's missing rows of all the sequences, as a step of decoding asks for.
  StatusOr<double> Operate(Done& done) override {
    Choose();
    const SelectionReport report = {
        .selected_rows = plan_.rows,
        .hot_rows = 0,
        .full_attention_bytes =
            sequences_.size() * plan_.tokens * plan_.model.kv_heads * plan_.model.head.row_bytes()};
    const double start = Now();
    const auto pending = service_->StartFetch(
        {groups_, static_cast<uint32_t>(plan_.model.head.row_bytes()), report});
    PASSBAND_ASSIGN_OR_RETURN(const auto rows, pending->Wait());
    const double seconds = Now() - start;
    done.rows += plan_.rows;
    done.bytes += rows.size();
    if (plan_.verify) {
      PASSBAND_RETURN_IF_ERROR(Check(rows));
      done.verified_bytes += rows.size();
    }
    return seconds;
  }

 private:
  // Ascending, spread over the whole of each sequence.
  void Choose() {
    const uint32_t layer = layer_++ % plan_.model.layers;
    const size_t count = sequences_.size() * plan_.model.kv_heads;
    tokens_.resize(plan_.rows);
    groups_.clear();
    size_t begin = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t end = plan_.rows * (i + 1) / count;
      for (size_t k = begin; k < end; ++k) {
        const uint64_t low = plan_.tokens * (k - begin) / (end - begin);
        const uint64_t high = plan_.tokens * (k - begin + 1) / (end - begin);
        tokens_[k] = static_cast<uint32_t>(low + random_() % std::max<uint64_t>(1, high - low));
      }
      if (end > begin) {
        groups_.push_back({.sequence = sequences_[i / plan_.model.kv_heads].id,
                           .layer = layer,
                           .kv_head = static_cast<uint32_t>(i % plan_.model.kv_heads),
                           .tokens = std::span(tokens_).subspan(begin, end - begin)});
      }
      begin = end;
    }
  }

  Status Check(std::span<const std::byte> rows) const {
    for (const FetchGroup& group : groups_) {
      const size_t bytes = group.tokens.size() * plan_.model.head.row_bytes();
      const auto sequence =
          std::find_if(sequences_.begin(), sequences_.end(),
                       [&group](const Sequence& each) { return each.id == group.sequence; });
      PASSBAND_RETURN_IF_ERROR(
          sequence->rows.CheckRows(group.layer, group.kv_head, group.tokens, rows.first(bytes)));
      rows = rows.subspan(bytes);
    }
    return OkStatus();
  }

  std::mt19937_64 random_;
  uint32_t layer_ = 0;
  std::vector<uint32_t> tokens_;
  std::vector<FetchGroup> groups_;
};

class AppendWork final : public BenchWork {
 public:
  AppendWork(const Plan& plan, uint64_t salt) : BenchWork(plan, salt) {}

 protected:
  bool wants_rows() const override { return false; }

  // One block of every layer of all the sequences, until it is stored.
  StatusOr<double> Operate(Done& done) override {
    for (Sequence& sequence : sequences_) {
      if (sequence.stored < plan_.tokens) continue;
      PASSBAND_RETURN_IF_ERROR(service_->Truncate(sequence.id, 0));
      sequence.stored = 0;
    }
    double seconds = 0;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      const Sequence& sequence = sequences_[i];
      for (uint32_t layer = 0; layer < plan_.model.layers; ++layer) {
        const std::vector<std::byte>& rows = RowsFor(i, layer);
        const double start = Now();
        PASSBAND_RETURN_IF_ERROR(service_->Append({.sequence = sequence.id,
                                                   .layer = layer,
                                                   .first_token = sequence.stored,
                                                   .count = kBlockTokens,
                                                   .rows = rows}));
        seconds += Now() - start;
      }
    }
    const double start = Now();
    for (Sequence& sequence : sequences_) {
      PASSBAND_RETURN_IF_ERROR(service_->Flush(sequence.id));
      sequence.stored += kBlockTokens;
    }
    seconds += Now() - start;
    const uint64_t tokens = sequences_.size() * kBlockTokens;
    done.rows += tokens * plan_.model.layers * plan_.model.kv_heads;
    done.bytes += tokens * plan_.model.token_bytes();
    if (plan_.verify) PASSBAND_RETURN_IF_ERROR(ReadBack(done));
    return seconds;
  }

 private:
  // Unless they are compared afterwards, every block gets the rows of the first: making new ones
  // would take as long as sending them.
  const std::vector<std::byte>& RowsFor(size_t i, uint32_t layer) {
    if (plan_.verify) {
      sequences_[i].rows.Fill(layer, sequences_[i].stored, kBlockTokens, scratch_);
      return scratch_;
    }
    first_blocks_.resize(sequences_.size() * plan_.model.layers);
    std::vector<std::byte>& rows = first_blocks_[i * plan_.model.layers + layer];
    if (rows.empty()) sequences_[i].rows.Fill(layer, 0, kBlockTokens, rows);
    return rows;
  }

  Status ReadBack(Done& done) {
    for (const Sequence& sequence : sequences_) {
      const uint64_t first = sequence.stored - kBlockTokens;
      for (uint32_t layer = 0; layer < plan_.model.layers; ++layer) {
        const auto pending = service_->StartRead({sequence.id, layer, first, kBlockTokens});
        PASSBAND_ASSIGN_OR_RETURN(const auto rows, pending->Wait());
        PASSBAND_RETURN_IF_ERROR(sequence.rows.CheckRange(layer, first, kBlockTokens, rows));
        done.verified_bytes += rows.size();
      }
    }
    return OkStatus();
  }

  std::vector<std::vector<std::byte>> first_blocks_;  // [sequence][layer]
};

class AttachWork final : public BenchWork {
 public:
  AttachWork(const Plan& plan, uint64_t salt) : BenchWork(plan, salt) {}

 protected:
  bool wants_token_ids() const override { return true; }

  Status Begin() override {
    PASSBAND_ASSIGN_OR_RETURN(profile_, SyntheticProfile(plan_.model));
    return OkStatus();
  }

  // Opens a sequence over each of the prompts that are stored, and brings its slices.
  StatusOr<double> Operate(Done& done) override {
    double seconds = 0;
    for (const Sequence& prompt : sequences_) {
      const double start = Now();
      uint64_t matched = 0;
      PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, Open(prompt.token_ids, &matched));
      more_.push_back(id);
      // A prompt's last token is always computed: its block is not taken over.
      if (matched + kBlockTokens < plan_.tokens) {
        return Error(StatusCode::kResourceExhausted,
                     "of a prompt of {} tokens only {} are still stored", plan_.tokens, matched);
      }
      seconds += Now() - start;
      PASSBAND_ASSIGN_OR_RETURN(const double fetched, TakeSlices(prompt, id, matched, done));
      seconds += fetched;
      more_.pop_back();
      PASSBAND_RETURN_IF_ERROR(service_->Close(id));
    }
    return seconds;
  }

 private:
  // The time that it took, without checks.
  StatusOr<double> TakeSlices(const Sequence& prompt, SequenceId id, uint64_t tokens, Done& done) {
    std::deque<std::unique_ptr<PendingRows>> under_way;
    double seconds = 0;
    uint32_t asked = 0;
    for (uint32_t layer = 0; layer < plan_.model.layers; ++layer) {
      const double start = Now();
      for (; asked < plan_.model.layers && under_way.size() < kWindows; ++asked) {
        under_way.push_back(service_->StartSlices({id, asked, 0, tokens}, profile_));
      }
      const auto pending = std::move(under_way.front());
      under_way.pop_front();
      PASSBAND_ASSIGN_OR_RETURN(const auto slices, pending->Wait());
      seconds += Now() - start;
      done.rows += tokens * plan_.model.kv_heads;
      done.bytes += slices.size();
      if (!plan_.verify) continue;
      PASSBAND_RETURN_IF_ERROR(prompt.rows.CheckSlices(*profile_, layer, tokens, slices));
      done.verified_bytes += slices.size();
    }
    return seconds;
  }

  std::shared_ptr<const Profile> profile_;
};

}  // namespace

void Done::Add(const Done& other) {
  latency.Add(other.latency);
  rows += other.rows;
  bytes += other.bytes;
  verified_bytes += other.verified_bytes;
  seconds = std::max(seconds, other.seconds);
}

StatusOr<std::unique_ptr<BenchWork>> BenchWork::Connect(const Plan& plan, uint64_t salt) {
  std::unique_ptr<BenchWork> work;
  switch (plan.what) {
    case What::kFetch:
      work = std::make_unique<FetchWork>(plan, salt);
      break;
    case What::kAppend:
      work = std::make_unique<AppendWork>(plan, salt);
      break;
    case What::kAttach:
      work = std::make_unique<AttachWork>(plan, salt);
      break;
  }
  PASSBAND_ASSIGN_OR_RETURN(work->service_, RemoteService::Connect(plan.remote));
  PASSBAND_RETURN_IF_ERROR(work->service_->RegisterModel(plan.model));
  return work;
}

StatusOr<SequenceId> BenchWork::Open(const std::vector<uint32_t>& token_ids, uint64_t* matched) {
  PASSBAND_ASSIGN_OR_RETURN(
      const OpenedSequence opened,
      service_->Open({.model = plan_.model.fingerprint.text(), .token_ids = token_ids}));
  if (matched != nullptr) *matched = opened.matched_tokens;
  return opened.id;
}

Status BenchWork::Append(Sequence& sequence, uint64_t count) {
  for (uint32_t layer = 0; layer < plan_.model.layers; ++layer) {
    sequence.rows.Fill(layer, sequence.stored, count, scratch_);
    PASSBAND_RETURN_IF_ERROR(service_->Append({.sequence = sequence.id,
                                               .layer = layer,
                                               .first_token = sequence.stored,
                                               .count = static_cast<uint32_t>(count),
                                               .rows = scratch_}));
  }
  sequence.stored += count;
  return OkStatus();
}

Status BenchWork::Prepare(const GoOn& go_on, std::atomic<uint64_t>& filled) {
  std::mt19937 random(static_cast<uint32_t>(salt_));
  for (uint32_t i = 0; i < plan_.batch; ++i) {
    std::vector<uint32_t> token_ids(wants_token_ids() ? plan_.tokens : 0);
    for (uint32_t& token : token_ids) token = static_cast<uint32_t>(random() & 0x7fffffffU);
    PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, Open(token_ids, nullptr));
    sequences_.push_back({.id = id,
                          .rows = SyntheticRows(plan_.model, salt_ + i),
                          .token_ids = std::move(token_ids)});
    if (!wants_rows()) continue;
    for (uint64_t stored = 0; stored < plan_.tokens && go_on(); stored += kBlockTokens) {
      PASSBAND_RETURN_IF_ERROR(Append(sequences_.back(), kBlockTokens));
      filled += kBlockTokens * plan_.model.token_bytes();
    }
    PASSBAND_RETURN_IF_ERROR(service_->Flush(id));
  }
  return Begin();
}

Status BenchWork::Run(const GoOn& go_on, Done& done) {
  const double start = Now();
  while (go_on()) {
    PASSBAND_ASSIGN_OR_RETURN(const double seconds, Operate(done));
    done.latency.Record(seconds);
    done.seconds = Now() - start;
  }
  return OkStatus();
}

Status BenchWork::Close() {
  std::vector<SequenceId> open = std::move(more_);
  for (const Sequence& sequence : sequences_) open.push_back(sequence.id);
  more_.clear();
  sequences_.clear();
  Status first;
  for (const SequenceId id : open) {
    const Status closed = service_->Close(id);
    if (first.ok()) first = closed;
    // It does not answer: the session's end takes the rest with it.
    if (closed.code() == StatusCode::kUnavailable ||
        closed.code() == StatusCode::kDeadlineExceeded) {
      break;
    }
  }
  return first;
}

}  // namespace passband::bench
