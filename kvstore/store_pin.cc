// What keeps sequences of Store, and their blocks in RAM.
#include <chrono>
#include <future>
#include <utility>

#include "kvstore/store.h"
#include "kvstore/store_impl.h"

namespace passband {
namespace {

// For bringing back what is not in RAM.
constexpr std::chrono::seconds kPatience{30};

std::vector<BlockRef> BlocksOf(const MissingBlocks& all) {
  std::vector<BlockRef> blocks;
  blocks.reserve(all.parts().size());
  for (const MissingBlocks::Part& part : all.parts()) blocks.push_back(part.block);
  return blocks;
}

}  // namespace

void Store::Pin(const std::string& tenant, SequenceId id, Duration time,
                std::function<void(const Status&)> done) {
  if (time < Duration::zero() || time > kMaxPin) {
    return done(Error(StatusCode::kInvalidArgument, "a pin of {:.0f} s: give {:.0f} s at most",
                      Seconds(time), Seconds(kMaxPin)));
  }
  if (time == Duration::zero()) time = kUsualPin;
  const auto found = impl_->table.Find(tenant, id);
  if (!found.ok()) return done(found.status());
  const std::shared_ptr<Sequence> sequence = *found;
  if (sequence->PinAgain(time)) {
    impl_->RecordLives({sequence});
    return done(OkStatus());
  }
  impl_->StartPin(sequence, time, std::move(done));
}

void Store::Impl::StartPin(const std::shared_ptr<Sequence>& sequence, Duration time,
                           std::function<void(const Status&)> done) {
  MissingBlocks all;
  if (const Status listed = sequence->ListBlocks(all); !listed.ok()) return done(listed);
  std::vector<BlockRef> blocks = BlocksOf(all);
  if (const Status room = pins.Check(sequence->identity().tenant, blocks); !room.ok())
    return done(room);
  any_ends.store(true, std::memory_order_relaxed);
  const auto keep = [this, sequence, blocks = std::move(blocks), time, done = std::move(done)](
                        const Status& restored, RestoreHold hold) {
    if (!restored.ok()) return done(restored);
    StatusOr<PinBudget::Ticket> ticket = pins.Take(sequence->identity().tenant, blocks);
    if (!ticket.ok()) return done(ticket.status());
    const Status pinned =
        sequence->Pin({.hold = std::move(hold), .ticket = *std::move(ticket)}, time);
    if (pinned.ok()) RecordLives({sequence});
    done(pinned);
  };
  if (restorer != nullptr) {
    return restorer->Start(all, std::chrono::steady_clock::now() + kPatience, keep);
  }
  RestoreHold hold;
  for (const MissingBlocks::Part& part : all.parts()) {
    PASSBAND_CHECK(part.block->TryPinWhole());  // without a tier all are resident
    hold.emplace_back(part.block.get());
  }
  keep(OkStatus(), std::move(hold));
}

Status Store::Pin(const std::string& tenant, SequenceId id, Duration time) {
  const auto promise = std::make_shared<std::promise<Status>>();
  Pin(tenant, id, time, [promise](const Status& status) { promise->set_value(status); });
  return promise->get_future().get();
}

Status Store::Unpin(const std::string& tenant, SequenceId id) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  sequence->Unpin();
  impl_->RecordLives({sequence});
  return OkStatus();
}

}  // namespace passband
