// Salvage: makes a database whose files are damaged or missing whole again, by leaving
// out the files that cannot be opened. What lay in other files stays.
//
// Threads  one, with the directory's lock held.
// Errors   kDataLoss when there is no telling which files belong to it.
#pragma once

#include <rocksdb/db.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "kvstore/rocksdb_support.h"
#include "kvstore/spill_losses.h"

namespace passband {

// OK when the file can be opened and is as long as the database has it.
Status CheckTableFile(const RocksDbSetup& setup, const rocksdb::SstFileMetaData& file);
// How many blocks lay in a file of a generation.
uint64_t BlocksIn(const rocksdb::SstFileMetaData& file);

// CURRENT names the MANIFEST. When it is damaged and there is one MANIFEST only, it is
// written again. True: it was.
StatusOr<bool> MendCurrent(const std::string& path);

// Leaves out what CheckTableFile refuses. A family of records with such a file is emptied:
// MendRecords fills it again.
Status SalvageFiles(const std::string& path, const RocksDbSetup& setup,
                    const std::vector<std::string>& families, SpillLosses& losses);

// Both families of records are whole when it returns OK; missing ones are created.
Status MendRecords(OpenDatabase& database, const RocksDbSetup& setup, SpillLosses& losses);

}  // namespace passband
