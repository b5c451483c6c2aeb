#include "kvstore/sequence_census.h"

#include <algorithm>
#include <utility>

#include "kvstore/life_records.h"

namespace passband {
namespace {

constexpr size_t kListed = 20;

}  // namespace

void SequenceCensus::Add(RecordKind kind, std::string_view key, std::string_view value) {
  switch (kind) {
    case RecordKind::kModel:
      if (const auto model = ParseModel(key, value); model.ok()) {
        layers_.emplace(model->fingerprint, model->shape.layers);
        ++so_far_.models;
      } else {
        Unreadable(model.status());
      }
      return;
    case RecordKind::kProfile:
      if (const auto profile = ParseProfile(value); profile.ok()) {
        ++so_far_.profiles;
      } else {
        Unreadable(profile.status());
      }
      return;
    case RecordKind::kColumn:
      if (auto column = ParseColumn(key, value); column.ok()) {
        const uint64_t number = column->number;
        columns_[number] = *std::move(column);
      } else {
        Unreadable(column.status());
      }
      return;
    case RecordKind::kSequence:
      AddSequence(key, value);
      return;
    case RecordKind::kStore:
      AddFact(key, value);
      return;
    case RecordKind::kLife:
      if (const auto life = ParseLife(key, value); !life.ok()) Unreadable(life.status());
      return;
    case RecordKind::kPrefix:
      if (auto prefix = ParsePrefix(key, value); prefix.ok()) {
        prefixes_.push_back(*std::move(prefix));
      } else {
        Unreadable(prefix.status());
      }
      return;
  }
  Unreadable(Error(StatusCode::kUnimplemented,
                   "a record of kind {}, which this program does not "
                   "know",
                   static_cast<int>(kind)));
}

void SequenceCensus::AddFact(std::string_view key, std::string_view value) {
  const StatusOr<uint64_t> fact = ParseFact(value);
  if (!fact.ok()) {
    Unreadable(fact.status());
  } else if (key == kForgottenKey) {
    forgotten_ = std::max(forgotten_, *fact);
  }
}

void SequenceCensus::AddSequence(std::string_view key, std::string_view value) {
  StatusOr<SequenceRecord> sequence = ParseSequence(key, value);
  if (!sequence.ok()) {
    Unreadable(sequence.status());
    ++so_far_.lost;
    return;
  }
  sequence->ids = {};
  sequences_.push_back(*std::move(sequence));
}

void SequenceCensus::Unreadable(const Status& why) {
  ++so_far_.unreadable_records;
  if (so_far_.findings.size() < kListed) so_far_.findings.emplace_back(Message(why));
}

CensusReport SequenceCensus::Count(const SpillReport& spill) const {
  CensusReport report = so_far_;
  CountBlocks(spill, report);
  Names names;
  const auto note = [&](const SequenceRecord& sequence, uint64_t lost, std::string why) {
    if (report.hurt.size() == kListed) return;
    report.hurt.push_back({sequence.id, sequence.tenant, sequence.committed, lost, std::move(why)});
  };
  for (const SequenceRecord& sequence : sequences_) {
    const auto model = layers_.find(sequence.model);
    const Status servable =
        model == layers_.end()
            ? Error(StatusCode::kDataLoss, "the record of its model is damaged or gone")
            : CheckServable(sequence, model->second, columns_);
    if (!servable.ok()) {
      ++report.lost;
      note(sequence, sequence.committed, Message(servable));
      continue;
    }
    for (const uint64_t number : sequence.columns) {
      const ColumnRecord& column = columns_.at(number);
      if (column.named) names.insert(column.digest);
    }
    if (const uint64_t lost = LostTokens(sequence, spill); lost > 0) {
      ++report.damaged;
      note(sequence, lost, "blocks of it are damaged or gone");
    } else {
      ++report.whole;
    }
  }
  CountPrefixes(spill, names, report);
  return report;
}

void SequenceCensus::CountPrefixes(const SpillReport& spill, const Names& sequences,
                                   CensusReport& report) const {
  std::multimap<PrefixDigest, const PrefixRecord*> continued;  // by the column before
  std::vector<const PrefixRecord*> next;
  for (const PrefixRecord& prefix : prefixes_) {
    if (prefix.first || sequences.contains(prefix.parent)) {
      next.push_back(&prefix);
    } else {
      continued.emplace(prefix.parent, &prefix);
    }
  }
  while (!next.empty()) {
    const PrefixRecord& prefix = *next.back();
    next.pop_back();
    const bool shared = sequences.contains(prefix.digest);
    if (!Forgotten(prefix, spill)) {
      ++(Holds(prefix.blocks, spill) ? report.prefixes : report.damaged_prefixes);
      if (shared) ++report.shared_prefixes;
    } else if (!shared) {
      continue;  // nor does what continues it come back
    }
    const auto [begin, end] = continued.equal_range(prefix.digest);
    for (auto at = begin; at != end; ++at) next.push_back(at->second);
  }
  report.stale_prefixes = prefixes_.size() - report.prefixes - report.damaged_prefixes;
}

// As CatalogLoader finds it: whether the blocks are whole it does not know.
bool SequenceCensus::Forgotten(const PrefixRecord& prefix, const SpillReport& spill) const {
  const auto model = layers_.find(prefix.model);
  if (model == layers_.end() || model->second != prefix.blocks.size()) return true;
  return std::any_of(prefix.blocks.begin(), prefix.blocks.end(), [&](const BlockAddress& address) {
    return address.generation <= forgotten_ || !spill.whole.contains(address.generation);
  });
}

void SequenceCensus::CountBlocks(const SpillReport& spill, CensusReport& report) const {
  std::vector<BlockAddress> named;
  const auto add = [&](const std::vector<BlockAddress>& blocks) {
    named.insert(named.end(), blocks.begin(), blocks.end());
  };
  for (const auto& [number, column] : columns_) add(column.blocks);
  for (const SequenceRecord& sequence : sequences_) add(sequence.tail);
  for (const PrefixRecord& prefix : prefixes_) {
    if (!Forgotten(prefix, spill)) add(prefix.blocks);
  }
  std::sort(named.begin(), named.end());
  named.erase(std::unique(named.begin(), named.end()), named.end());
  const auto held = static_cast<uint64_t>(
      std::count_if(named.begin(), named.end(),
                    [&](const BlockAddress& address) { return spill.Holds(address); }));
  report.missing_blocks = named.size() - held;
  report.orphaned_blocks = spill.blocks - std::min(spill.blocks, held);
}

uint64_t SequenceCensus::LostTokens(const SequenceRecord& sequence,
                                    const SpillReport& spill) const {
  uint64_t lost = 0;
  for (const uint64_t number : sequence.columns) {
    if (!Holds(columns_.at(number).blocks, spill)) lost += kBlockTokens;
  }
  if (!Holds(sequence.tail, spill)) lost += sequence.committed % kBlockTokens;
  return lost;
}

bool SequenceCensus::Holds(const std::vector<BlockAddress>& column,
                           const SpillReport& spill) const {
  return std::all_of(column.begin(), column.end(), [&](const BlockAddress& address) {
    return address.generation > forgotten_ && spill.Holds(address);
  });
}

}  // namespace passband
