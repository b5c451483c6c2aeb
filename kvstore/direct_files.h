// DirectFiles: RocksDB's file system, with table files read and written past the page
// cache through buffers of huge pages, and written by a thread of their own while RocksDB
// makes what comes next.
//
// Why buffers of huge pages: a device takes a request by its contiguous pieces of memory.
// In the pages that malloc gives to RocksDB, 256 KiB are 64 pieces, and a virtual disk
// takes four times as long for them as for one.
//
// Threads    as rocksdb::FileSystem; one thread a table file that is being written.
// Ownership  keeps `base`'s file system; the environment outlives what is opened with it.
// Errors     of a write are told by a later Append, Sync or Close of the file.
#pragma once

#include <rocksdb/env.h>

#include <memory>

#include "kvstore/log_repair.h"
#include "kvstore/log_room.h"

namespace passband {

// Files opened without direct I/O are those of `base`. Logs get room from `room` and are mended by
// `repair`: both, or neither.
std::unique_ptr<rocksdb::Env> MakeDirectEnv(rocksdb::Env& base,
                                            std::shared_ptr<LogRoom> room = nullptr,
                                            std::shared_ptr<LogRepair> repair = nullptr);

}  // namespace passband
