#include "kvstore/spill_salvage.h"

#include <rocksdb/sst_file_reader.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/log.h"
#include "base/units.h"
#include "kvstore/record_walk.h"
#include "kvstore/spill_format.h"

namespace passband {
namespace {

constexpr char kComplete[] = "complete";  // an internal record: the copy has all records
constexpr size_t kBatchBytes = 1 * kMiB;

using Files = std::map<std::string, std::vector<rocksdb::LiveFileMetaData>>;  // by family

bool IsRecords(const std::string& family) { return family == kRecordsA || family == kRecordsB; }

ColumnFamily FindFamily(const OpenDatabase& database, const std::string& name) {
  for (const ColumnFamily& family : database.families) {
    if (family->GetName() == name) return family;
  }
  return nullptr;
}

StatusOr<ColumnFamily> CreateFamily(OpenDatabase& database, const RocksDbSetup& setup,
                                    const std::string& name) {
  rocksdb::ColumnFamilyHandle* handle = nullptr;
  const auto created =
      database.db->CreateColumnFamily(MakeFamilyOptions(setup, name), name, &handle);
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(created, "creating " + name));
  ColumnFamily family = OwnFamily(*database.db, handle);
  database.families.push_back(family);
  return family;
}

// The old one can be read while `family` is held.
Status DropFamily(OpenDatabase& database, const ColumnFamily& family) {
  const auto dropped = database.db->DropColumnFamily(family.get());
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(dropped, "dropping " + family->GetName()));
  std::erase(database.families, family);
  return OkStatus();
}

// A generation without its damaged files, under a name of its own; then the old one goes.
// A crash between the two leaves both: `old` is damaged still, so all this comes again.
Status Transplant(OpenDatabase& database, const RocksDbSetup& setup, const ColumnFamily& old,
                  std::vector<rocksdb::LiveFileMetaData> good) {
  auto name = ParseGenerationName(old->GetName());
  if (!good.empty() && name.has_value()) {
    ++name->salvages;
    const std::string to = FormatGenerationName(*name);
    if (const ColumnFamily half_done = FindFamily(database, to)) {
      PASSBAND_RETURN_IF_ERROR(DropFamily(database, half_done));
    }
    rocksdb::ExportImportFilesMetaData import;
    import.db_comparator_name = old->GetComparator()->Name();
    import.files = std::move(good);
    rocksdb::ImportColumnFamilyOptions options;
    options.move_files = true;  // links, while the old family is there
    rocksdb::ColumnFamilyHandle* handle = nullptr;
    const auto imported = database.db->CreateColumnFamilyWithImport(MakeGenerationOptions(setup),
                                                                    to, options, import, &handle);
    PASSBAND_RETURN_IF_ERROR(FromRocksDb(imported, "salvaging " + old->GetName()));
    database.families.push_back(OwnFamily(*database.db, handle));
  }
  return DropFamily(database, old);
}

// Records that can be read file by file, the newest of each key last.
std::map<std::string, std::string> CollectRecords(const RocksDbSetup& setup,
                                                  std::vector<rocksdb::LiveFileMetaData> files) {
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.largest_seqno < b.largest_seqno; });
  std::map<std::string, std::string> records;
  for (const auto& file : files) {
    rocksdb::SstFileReader reader({MakeDbOptions(setup), MakeRecordOptions(setup)});
    if (!reader.Open(file.db_path + file.name).ok()) continue;
    const std::unique_ptr<rocksdb::Iterator> i(reader.NewIterator({}));
    for (i->SeekToFirst(); i->Valid(); i->Next()) {
      if (!CheckRecord(i->key().ToStringView(), i->value().ToStringView()).ok()) continue;
      records[i->key().ToString()] = i->value().ToString();
    }
  }
  return records;
}

// Writes records as they lie in the database to one copy.
class CopyWriter {
 public:
  CopyWriter(rocksdb::DB& db, ColumnFamily family) : db_(db), family_(std::move(family)) {}

  void Put(const std::string& key, const std::string& stored) {
    if (!status_.ok()) return;
    status_ = batch_.Put(family_.get(), key, stored);
    if (batch_.GetDataSize() > kBatchBytes) Write();
  }
  Status Finish() {
    const std::string key = MakeRecordKey(kInternalRecord, kComplete);
    Put(key, MakeRecordValue(key, "yes"));
    Write();
    return FromRocksDb(status_, "mending records");
  }

 private:
  void Write() {
    rocksdb::WriteOptions options;
    options.sync = true;
    if (status_.ok()) status_ = db_.Write(options, &batch_);
    batch_.Clear();
  }

  rocksdb::DB& db_;
  const ColumnFamily family_;
  rocksdb::WriteBatch batch_;
  rocksdb::Status status_;
};

// Both copies lost files: what remains of both goes to a new first copy.
Status SalvageBothCopies(OpenDatabase& database, const RocksDbSetup& setup, const Files& files,
                         SpillLosses& losses) {
  std::vector<rocksdb::LiveFileMetaData> all;
  for (const auto& [family, list] : files) {
    if (IsRecords(family)) all.insert(all.end(), list.begin(), list.end());
  }
  const auto records = CollectRecords(setup, std::move(all));
  ++losses.records;  // Nobody knows how many.
  for (const char* name : {kRecordsA, kRecordsB}) {
    if (const auto family = FindFamily(database, name)) {
      PASSBAND_RETURN_IF_ERROR(DropFamily(database, family));
    }
  }
  PASSBAND_ASSIGN_OR_RETURN(const ColumnFamily fresh, CreateFamily(database, setup, kRecordsA));
  CopyWriter writer(*database.db, fresh);
  for (const auto& [key, stored] : records) writer.Put(key, stored);
  return writer.Finish();
}

bool IsComplete(const OpenDatabase& database, const ColumnFamily& family) {
  if (family == nullptr) return false;
  const std::string key = MakeRecordKey(kInternalRecord, kComplete);
  std::string stored;
  return database.db->Get({}, family.get(), key, &stored).ok() && CheckRecord(key, stored).ok();
}

}  // namespace

Status CheckTableFile(const RocksDbSetup& setup, const rocksdb::SstFileMetaData& file) {
  const std::string path = file.db_path + file.name;
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    return Error(StatusCode::kDataLoss, "{} is missing", path);
  }
  if (static_cast<uint64_t>(info.st_size) != file.size) {
    return Error(StatusCode::kDataLoss, "{} has {} bytes instead of {}", path, info.st_size,
                 file.size);
  }
  rocksdb::SstFileReader reader({MakeDbOptions(setup), MakeGenerationOptions(setup)});
  return FromRocksDb(reader.Open(path), path);
}

uint64_t BlocksIn(const rocksdb::SstFileMetaData& file) {
  const auto first = ParsePlaneKey(file.smallestkey);
  const auto last = ParsePlaneKey(file.largestkey);
  return first.has_value() && last.has_value() ? last->number - first->number + 1 : 0;
}

StatusOr<bool> MendCurrent(const std::string& path) {
  const std::string current = path + "/CURRENT";
  std::string named;
  std::ifstream(current) >> named;
  std::vector<std::string> manifests;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("MANIFEST-")) manifests.push_back(name);
  }
  const bool names_one = std::find(manifests.begin(), manifests.end(), named) != manifests.end();
  if (names_one || manifests.size() != 1) return false;
  const std::string fresh = current + ".passband";
  {
    std::ofstream file(fresh, std::ios::trunc);
    file << manifests[0] << '\n';
    if (!file.flush()) return Error(StatusCode::kUnavailable, "cannot write {}", fresh);
  }
  std::filesystem::rename(fresh, current, error);
  if (error)
    return Error(StatusCode::kUnavailable, "cannot write {}: {}", current, error.message());
  log::Warn("spill_current_mended", {{"manifest", manifests[0]}});
  return true;
}

Status SalvageFiles(const std::string& path, const RocksDbSetup& setup,
                    const std::vector<std::string>& families, SpillLosses& losses) {
  RocksDbSetup lenient = setup;
  lenient.strict = false;
  PASSBAND_ASSIGN_OR_RETURN(const auto database,
                            OpenAllFamilies(path, MakeDbOptions(lenient), lenient, families));
  std::vector<rocksdb::LiveFileMetaData> live;
  database->db->GetLiveFilesMetaData(&live);
  Files files;
  Files good;
  for (const rocksdb::LiveFileMetaData& file : live) {
    files[file.column_family_name].push_back(file);
    const Status status = CheckTableFile(setup, file);
    if (status.ok()) {
      good[file.column_family_name].push_back(file);
      continue;
    }
    if (status.code() != StatusCode::kDataLoss) return status;
    ++losses.files;
    if (!IsRecords(file.column_family_name)) losses.blocks += BlocksIn(file);
    log::Warn("spill_file_lost", {{"family", file.column_family_name}, {"why", status}});
  }
  std::vector<std::string> damaged;
  for (const auto& [family, list] : files) {
    if (good[family].size() != list.size()) damaged.push_back(family);
  }
  if (std::count_if(damaged.begin(), damaged.end(), IsRecords) == 2) {
    PASSBAND_RETURN_IF_ERROR(SalvageBothCopies(*database, lenient, good, losses));
    std::erase_if(damaged, IsRecords);
  }
  for (const std::string& name : damaged) {
    const ColumnFamily family = FindFamily(*database, name);
    PASSBAND_RETURN_IF_ERROR(IsRecords(name) ? DropFamily(*database, family)
                                             : Transplant(*database, lenient, family, good[name]));
  }
  return OkStatus();
}

Status MendRecords(OpenDatabase& database, const RocksDbSetup& setup, SpillLosses& losses) {
  const std::string begin(1, '\0');
  const std::string end(1, '\xff');
  const std::string complete = MakeRecordKey(kInternalRecord, kComplete);
  for (const char* name : {kRecordsA, kRecordsB}) {
    ColumnFamily a = FindFamily(database, kRecordsA);
    ColumnFamily b = FindFamily(database, kRecordsB);
    if (a == nullptr && b == nullptr) {
      PASSBAND_ASSIGN_OR_RETURN(a, CreateFamily(database, setup, kRecordsA));
      PASSBAND_RETURN_IF_ERROR(CopyWriter(*database.db, a).Finish());
    }
    const bool is_a = name == std::string(kRecordsA);
    const ColumnFamily& mine = is_a ? a : b;
    rocksdb::ColumnFamilyHandle* const read_a = a != nullptr ? a.get() : b.get();
    rocksdb::ColumnFamilyHandle* const read_b = b != nullptr ? b.get() : a.get();
    const auto nothing = [](std::string_view /*key*/, std::string_view /*value*/) {};
    PASSBAND_ASSIGN_OR_RETURN(const RecordWalk walk,
                              WalkRecords(*database.db, read_a, read_b, begin, end, nothing));
    if (IsComplete(database, mine) && (is_a ? walk.damaged_a : walk.damaged_b) == 0) continue;
    // Fresh databases lack a second copy, which is no damage.
    if (walk.records > 1 || walk.lost != 0) ++losses.mended_copies;
    losses.records = std::max(losses.records, walk.lost);
    if (mine != nullptr) PASSBAND_RETURN_IF_ERROR(DropFamily(database, mine));
    PASSBAND_ASSIGN_OR_RETURN(const ColumnFamily fresh, CreateFamily(database, setup, name));
    CopyWriter writer(*database.db, fresh);
    const auto copied = WalkRecords(*database.db, read_a, read_b, begin, end,
                                    [&](std::string_view key, std::string_view value) {
                                      // That it is complete, a copy says itself, last of all.
                                      if (key != complete)
                                        writer.Put(std::string(key), MakeRecordValue(key, value));
                                    });
    PASSBAND_RETURN_IF_ERROR(copied.status());
    PASSBAND_RETURN_IF_ERROR(writer.Finish());
  }
  return OkStatus();
}

}  // namespace passband
