#include "kvstore/spill_database.h"

#include <rocksdb/db.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/sst_file_manager.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "kvstore/direct_files.h"
#include "kvstore/rocksdb_catalog.h"
#include "kvstore/rocksdb_support.h"
#include "kvstore/rocksdb_tier.h"
#include "kvstore/spill_directory.h"
#include "kvstore/spill_format.h"
#include "kvstore/spill_salvage.h"
#include "kvstore/write_behind.h"

namespace passband {
namespace {

// A rate that no device reaches: the limiter's rate can be set later, its absence cannot.
constexpr uint64_t kUnlimited = uint64_t{1} << 40;
constexpr char kReserved[] = "generation";

Status CheckOptions(const SpillDatabase::Options& options) {
  if (options.capacity_bytes == 0 || options.generation_bytes == 0 || options.memtable_bytes == 0 ||
      options.memtables < 2) {
    return Error(StatusCode::kInvalidArgument,
                 "a spill of {} bytes, generations of {}, {} memtables of {}: each must be more "
                 "than 0, and 2 memtables at least",
                 options.capacity_bytes, options.generation_bytes, options.memtables,
                 options.memtable_bytes);
  }
  return OkStatus();
}

Status NoTableOfContents(const std::string& path, const Status& why) {
  if (why.code() != StatusCode::kDataLoss) return why;
  return Error(StatusCode::kDataLoss,
               "the spill database in '{}' cannot be opened: its table of contents is damaged "
               "({}). `passband verify --spill-dir {}` says what is readable. Restore the "
               "directory's CURRENT and MANIFEST files from a copy, or empty the directory to "
               "start without what was spilled",
               path, Message(why), path);
}

StatusOr<std::vector<std::string>> ListFamilies(const std::string& path,
                                                const rocksdb::DBOptions& options) {
  std::vector<std::string> names;
  const auto listed = rocksdb::DB::ListColumnFamilies(options, path, &names);
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(listed, "reading the table of contents"));
  return names;
}

// Opens what is there, without its damaged files.
StatusOr<std::unique_ptr<OpenDatabase>> OpenWhole(const std::string& path,
                                                  const rocksdb::DBOptions& options,
                                                  const RocksDbSetup& setup, SpillLosses& losses) {
  auto names = ListFamilies(path, options);
  if (!names.ok()) {
    PASSBAND_ASSIGN_OR_RETURN(const bool mended, MendCurrent(path));
    if (mended) names = ListFamilies(path, options);
    if (!names.ok()) return names.status();
  }
  auto opened = OpenAllFamilies(path, options, setup, *names);
  if (opened.ok() || opened.status().code() != StatusCode::kDataLoss) return opened;
  log::Warn("spill_damaged", {{"directory", path}, {"why", opened.status()}});
  PASSBAND_RETURN_IF_ERROR(SalvageFiles(path, setup, *names, losses));
  PASSBAND_ASSIGN_OR_RETURN(*names, ListFamilies(path, options));
  return OpenAllFamilies(path, options, setup, *names);
}

StatusOr<std::unique_ptr<OpenDatabase>> OpenFresh(const std::string& path,
                                                  rocksdb::DBOptions options,
                                                  const RocksDbSetup& setup) {
  options.create_if_missing = true;
  std::vector<std::string> names;
  // What an interrupted first start has left.
  if (!rocksdb::DB::ListColumnFamilies(options, path, &names).ok()) {
    names = {rocksdb::kDefaultColumnFamilyName};
  }
  return OpenAllFamilies(path, options, setup, names);
}

}  // namespace

struct SpillDatabase::Impl {
  Options options;
  RealClock real_clock;
  const std::shared_ptr<LogRoom> log_room = std::make_shared<LogRoom>();
  const std::shared_ptr<LogRepair> log_repair =
      std::make_shared<LogRepair>([this](const rocksdb::IOStatus& error) { NoteFailedLog(error); });
  std::unique_ptr<rocksdb::Env> direct_env;
  RocksDbSetup setup;
  std::unique_ptr<SpillDirectory> directory;
  WriteBehind write_behind;
  std::shared_ptr<rocksdb::RateLimiter> limiter;
  std::shared_ptr<rocksdb::SstFileManager> files;
  SpillLosses losses;
  std::unique_ptr<OpenDatabase> database;
  std::unique_ptr<RocksDbCatalog> catalog;
  std::unique_ptr<RocksDbTier> tier;

  void NoteFailedLog(const rocksdb::IOStatus& error);
  Status OpenDirectory();
  Status OpenDb();
  Status OpenParts();
};

void SpillDatabase::Impl::NoteFailedLog(const rocksdb::IOStatus& error) {
  const Status status = DeviceFailure(error, /*resumes=*/true);
  log::Warn("spill_log_failed", {{"why", status}});
  write_behind.SetError(status);
}

Status SpillDatabase::Impl::OpenDirectory() {
  PASSBAND_ASSIGN_OR_RETURN(directory,
                            SpillDirectory::Open(options.directory, SpillDirectory::Use::kServe));
  setup = {
      .env = options.env, .direct_io = options.direct_io, .memtable_bytes = options.memtable_bytes};
  if (setup.direct_io && !directory->SupportsDirectIo()) {
    log::Warn("spill_without_direct_io", {{"directory", options.directory}});
    setup.direct_io = false;
  }
  direct_env = MakeDirectEnv(setup.env != nullptr ? *setup.env : *rocksdb::Env::Default(), log_room,
                             log_repair);
  setup.env = direct_env.get();
  return OkStatus();
}

Status SpillDatabase::Impl::OpenDb() {
  rocksdb::DBOptions db_options = MakeDbOptions(setup);
  limiter.reset(rocksdb::NewGenericRateLimiter(static_cast<int64_t>(kUnlimited)));
  rocksdb::Status made;
  files.reset(rocksdb::NewSstFileManager(db_options.env, db_options.info_log, "",
                                         /*rate_bytes_per_sec=*/0, true, &made));
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(made, "tracking files"));
  db_options.rate_limiter = limiter;
  db_options.sst_file_manager = files;
  db_options.listeners.push_back(std::make_shared<RocksDbEvents>(write_behind));
  auto opened = directory->whole() ? OpenWhole(options.directory, db_options, setup, losses)
                                   : OpenFresh(options.directory, db_options, setup);
  if (!opened.ok()) return NoTableOfContents(options.directory, opened.status());
  database = *std::move(opened);
  PASSBAND_RETURN_IF_ERROR(MendRecords(*database, setup, losses));
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(log_repair->error(), "beginning a log"));
  if (!directory->whole()) return directory->MarkWhole();
  return OkStatus();
}

Status SpillDatabase::Impl::OpenParts() {
  ColumnFamily a;
  ColumnFamily b;
  std::vector<ColumnFamily> generations;
  for (ColumnFamily& family : database->families) {
    const std::string& name = family->GetName();
    if (name == kRecordsA) {
      a = family;
    } else if (name == kRecordsB) {
      b = family;
    } else if (ParseGenerationName(name).has_value()) {
      generations.push_back(family);
    } else {
      return Error(StatusCode::kFailedPrecondition,
                   "the database in '{}' is not Passband's: it has a column family '{}'",
                   options.directory, name);
    }
  }
  catalog = std::make_unique<RocksDbCatalog>(*database->db, std::move(a), std::move(b), log_room,
                                             log_repair, write_behind);
  // Should the record be lost, time keeps numbers apart.
  const uint64_t reserved = catalog->ReadNumber(kReserved).value_or(0);
  database->families.clear();
  tier = std::make_unique<RocksDbTier>(
      RocksDbTier::Options{
          .capacity_bytes = options.capacity_bytes,
          .generation_bytes = std::min(options.generation_bytes, options.capacity_bytes / 4),
          .generation_age = options.generation_age,
          .memtable_bytes = options.memtable_bytes,
          .memtables = options.memtables,
          .stall_timeout = options.stall_timeout,
          .resume_interval = options.resume_interval,
          .setup = setup},
      RocksDbTier::Parts{
          .db = *database->db,
          .write_behind = write_behind,
          .files = *files,
          .reserve = [this](uint64_t number) { return catalog->WriteNumber(kReserved, number); },
          .mend = [this] { return catalog->Mend(); },
          .clock = options.clock != nullptr ? *options.clock : real_clock},
      generations, reserved);
  return OkStatus();
}

SpillDatabase::SpillDatabase(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SpillDatabase::~SpillDatabase() = default;

StatusOr<std::unique_ptr<SpillDatabase>> SpillDatabase::Open(Options options) {
  PASSBAND_RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  PASSBAND_RETURN_IF_ERROR(impl->OpenDirectory());
  PASSBAND_RETURN_IF_ERROR(impl->OpenDb());
  PASSBAND_RETURN_IF_ERROR(impl->OpenParts());
  if (impl->losses.any()) {
    log::Warn("spill_losses", {{"files", impl->losses.files},
                               {"blocks", impl->losses.blocks},
                               {"records", impl->losses.records},
                               {"mended_copies", impl->losses.mended_copies}});
  }
  std::unique_ptr<SpillDatabase> database(new SpillDatabase(std::move(impl)));
  database->SetWriteRate(database->impl_->options.write_bytes_per_second);
  return database;
}

Tier& SpillDatabase::tier() { return *impl_->tier; }
Catalog& SpillDatabase::catalog() { return *impl_->catalog; }
const SpillLosses& SpillDatabase::losses() const { return impl_->losses; }

SpillHealth SpillDatabase::Health() const {
  const RocksDbTier::Counters counters = impl_->tier->counters();
  SpillHealth health{.device = impl_->write_behind.error(),
                     .device_errors = impl_->write_behind.errors(),
                     .pending_bytes = impl_->write_behind.pending_bytes(),
                     .file_bytes = impl_->files->GetTotalSize(),
                     .stall_seconds = counters.stall_seconds,
                     .damaged_planes = counters.damaged_planes,
                     .lost_blocks = counters.lost_blocks};
  rocksdb::DB& db = *impl_->database->db;
  db.GetAggregatedIntProperty(rocksdb::DB::Properties::kSizeAllMemTables, &health.memtable_bytes);
  db.GetAggregatedIntProperty(rocksdb::DB::Properties::kEstimateTableReadersMem,
                              &health.index_bytes);
  return health;
}

void SpillDatabase::SetWriteRate(uint64_t bytes_per_second) {
  const uint64_t rate = bytes_per_second == 0 ? kUnlimited : std::min(bytes_per_second, kUnlimited);
  impl_->limiter->SetBytesPerSecond(static_cast<int64_t>(rate));
}

}  // namespace passband
