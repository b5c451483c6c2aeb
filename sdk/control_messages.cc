#include "sdk/control_messages.h"

namespace passband {

SequenceStat ToStat(const v1::Sequence& sequence) {
  return {
      .id = SequenceId(sequence.id()),
      .tenant = sequence.tenant(),
      .model = sequence.model(),
      .sealed = sequence.state() == v1::SEQUENCE_STATE_SEALED,
      .committed_tokens = sequence.committed_tokens(),
      .known_tokens = sequence.known_tokens(),
      .shared_tokens = sequence.shared_tokens(),
      .resident_bytes = sequence.resident_bytes(),
      .idle_seconds = sequence.idle_seconds(),
      .ttl = std::chrono::milliseconds(sequence.ttl_ms()),
      .pinned_for = std::chrono::milliseconds(sequence.pin_ms()),
  };
}

}  // namespace passband
