// BlockWatcher: is told when a block that somebody watches (Block::Watch) dies or is about to
// change. What was derived from its bytes is void then.
//
// Threads  called on any, with locks of the store held: takes leaf locks only, calls nothing of
//          the store.
#pragma once

namespace passband {

class Block;

class BlockWatcher {
 public:
  virtual ~BlockWatcher() = default;

  // Nobody watches it any more.
  virtual void Gone(const Block& block) = 0;
};

}  // namespace passband
