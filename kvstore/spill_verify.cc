#include "kvstore/spill_verify.h"

#include <fcntl.h>
#include <rocksdb/db.h>
#include <rocksdb/sst_file_reader.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/units.h"
#include "kvstore/record_walk.h"
#include "kvstore/rocksdb_support.h"
#include "kvstore/spill_directory.h"
#include "kvstore/spill_format.h"
#include "kvstore/spill_salvage.h"

namespace passband {
namespace {

constexpr size_t kFindings = 20;
constexpr uint64_t kReadahead = 2 * kMiB;
constexpr uint64_t kReportEvery = 256;  // planes

struct TableFile {
  std::string path;
  std::string family;  // empty: the file itself says
  uint64_t bytes = 0;
  uint64_t blocks = 0;  // 0: unknown
};

// The planes of one file of a generation.
class PlaneCount {
 public:
  explicit PlaneCount(uint64_t generation) : generation_(generation) {}

  void Good(uint64_t number, const PlaneShape& shape) {
    Block& block = blocks_[number];
    ++block.good;
    block.planes = shape.planes;
    block.bytes = shape.block_bytes;
    planes_ = shape.planes;
  }
  void Damaged(uint64_t number) {
    ++blocks_[number].damaged;
    ++damaged_;
  }
  // What must come after a plane that could not be read.
  PlaneId After(const PlaneId& id) const {
    return id.plane + 1 < planes_ ? PlaneId{id.number, id.plane + 1} : PlaneId{id.number + 1, 0};
  }
  void AddTo(SpillReport& report) const {
    std::vector<bool>& whole = report.whole[generation_];
    for (const auto& [number, block] : blocks_) {
      if (block.damaged != 0 || block.good != block.planes) {
        ++report.damaged_blocks;
        continue;
      }
      ++report.blocks;
      report.block_bytes += block.bytes;
      if (whole.size() <= number) whole.resize(number + 1);
      whole[number] = true;
    }
    report.damaged_planes += damaged_;
  }

 private:
  struct Block {
    uint32_t good = 0;
    uint32_t planes = 0;
    uint32_t damaged = 0;
    uint64_t bytes = 0;
  };
  const uint64_t generation_;
  std::map<uint64_t, Block> blocks_;
  uint32_t planes_ = kMaxPlanes;  // of the block before
  uint64_t damaged_ = 0;
};

class Verifier {
 public:
  explicit Verifier(const SpillVerifyOptions& options) : options_(options) {}

  StatusOr<SpillReport> Run() {
    PASSBAND_ASSIGN_OR_RETURN(
        directory_, SpillDirectory::Open(options_.directory, SpillDirectory::Use::kInspect));
    if (!directory_->whole()) return std::move(report_);
    setup_ = {.direct_io = ReadsDirectly(), .memtable_bytes = kMiB, .strict = false};
    report_.contents = OpenContents();
    if (!report_.contents.ok()) {
      if (report_.contents.code() == StatusCode::kUnavailable) return report_.contents;
      Find(Message(report_.contents));
    }
    const std::vector<TableFile> files = database_ != nullptr ? ListedFiles() : FilesInDirectory();
    for (const TableFile& file : files) total_bytes_ += file.bytes;
    for (const TableFile& file : files) {
      const uint64_t end = report_.read_bytes + file.bytes;
      PASSBAND_RETURN_IF_ERROR(VerifyFile(file));
      ReadUpTo(end);
    }
    if (database_ != nullptr) PASSBAND_RETURN_IF_ERROR(VerifyRecords());
    report_.generations = report_.whole.size();
    return std::move(report_);
  }

 private:
  void Find(std::string text) {
    if (report_.findings.size() < kFindings) report_.findings.push_back(std::move(text));
  }

  void ReadUpTo(uint64_t bytes) {
    report_.read_bytes = std::min(bytes, total_bytes_);
    if (options_.progress) options_.progress(report_.read_bytes, total_bytes_);
  }

  bool ReadsDirectly() const {
    const std::string path = options_.directory + "/OWNER";
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) return false;
    ::close(fd);
    return true;
  }

  Status OpenContents() {
    std::vector<std::string> names;
    const auto listed =
        rocksdb::DB::ListColumnFamilies(MakeDbOptions(setup_), options_.directory, &names);
    PASSBAND_RETURN_IF_ERROR(FromRocksDb(listed, "the table of contents"));
    PASSBAND_ASSIGN_OR_RETURN(database_, OpenAllFamilies(options_.directory, MakeDbOptions(setup_),
                                                         setup_, names, /*read_only=*/true));
    return OkStatus();
  }

  std::vector<TableFile> ListedFiles() {
    std::vector<rocksdb::LiveFileMetaData> live;
    database_->db->GetLiveFilesMetaData(&live);
    std::vector<TableFile> files;
    for (const rocksdb::LiveFileMetaData& file : live) {
      const std::string path = file.db_path + file.name;
      const uint64_t blocks =
          ParseGenerationName(file.column_family_name).has_value() ? BlocksIn(file) : 0;
      ++report_.files;
      std::error_code error;
      if (!std::filesystem::exists(path, error)) {
        ++report_.missing_files;
        report_.damaged_blocks += blocks;
        Find(fmt::format("{} is missing: {} blocks", path, blocks));
        continue;
      }
      if (const Status status = CheckTableFile(setup_, file); !status.ok()) {
        ++report_.damaged_files;
        report_.damaged_blocks += blocks;
        Find(fmt::format("{}: {} blocks", Message(status), blocks));
        continue;
      }
      files.push_back({path, file.column_family_name, file.size, blocks});
    }
    return files;
  }

  std::vector<TableFile> FilesInDirectory() {
    std::vector<TableFile> files;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(options_.directory, error)) {
      if (entry.path().extension() != ".sst") continue;
      ++report_.files;
      files.push_back({entry.path().string(), "", entry.file_size(error), 0});
    }
    return files;
  }

  Status VerifyFile(const TableFile& file) {
    rocksdb::SstFileReader reader({MakeDbOptions(setup_), MakeGenerationOptions(setup_)});
    if (const auto opened = reader.Open(file.path); !opened.ok()) {
      const Status status = FromRocksDb(opened, file.path);
      if (status.code() != StatusCode::kDataLoss) return status;
      ++report_.damaged_files;
      report_.damaged_blocks += file.blocks;
      Find(Message(status));
      return OkStatus();
    }
    const auto properties = reader.GetTableProperties();
    const auto name =
        ParseGenerationName(file.family.empty() ? properties->column_family_name : file.family);
    if (name.has_value()) return VerifyPlanes(reader, name->generation, properties->num_entries);
    if (database_ == nullptr) VerifyRecordFile(reader);
    return OkStatus();
  }

  Status VerifyPlanes(rocksdb::SstFileReader& reader, uint64_t generation, uint64_t entries) {
    rocksdb::ReadOptions read;
    read.readahead_size = kReadahead;
    std::unique_ptr<rocksdb::Iterator> i(reader.NewIterator(read));
    PlaneCount count(generation);
    PlaneId expected;
    i->SeekToFirst();
    if (!i->Valid()) expected = FirstKeyBehind(reader);
    const uint64_t start = report_.read_bytes;
    uint64_t read_bytes = 0;
    for (uint64_t seen = 0; seen < entries; ++seen) {
      if (i->Valid()) {
        read_bytes += i->key().size() + i->value().size();
        if (seen % kReportEvery == 0) ReadUpTo(start + read_bytes);
        const auto id = ParsePlaneKey(i->key().ToStringView());
        if (!id.has_value())
          return Error(StatusCode::kDataLoss, "a key of {} bytes", i->key().size());
        const BlockAddress address{generation, id->number};
        const auto shape = CheckPlane(address, id->plane, i->value().ToStringView());
        if (shape.ok()) {
          count.Good(id->number, *shape);
        } else {
          count.Damaged(id->number);
          Find(Message(shape.status()));
        }
        expected = count.After(*id);
        i->Next();
        continue;
      }
      const Status why = FromRocksDb(i->status(), "reading planes");
      if (why.ok()) break;
      if (why.code() != StatusCode::kDataLoss) return why;
      count.Damaged(expected.number);
      Find(fmt::format("block {}.{}: {}", generation, expected.number, Message(why)));
      expected = count.After(expected);
      const PlaneKey key = MakePlaneKey(expected.number, expected.plane);
      i.reset(reader.NewIterator(read));
      i->Seek(rocksdb::Slice(key.data(), key.size()));
    }
    count.AddTo(report_);
    return OkStatus();
  }

  // Where a file begins whose first plane cannot be read: its last one tells.
  PlaneId FirstKeyBehind(rocksdb::SstFileReader& reader) const {
    const std::unique_ptr<rocksdb::Iterator> i(reader.NewIterator({}));
    i->SeekToLast();
    if (!i->Valid()) return {};
    const PlaneId last = ParsePlaneKey(i->key().ToStringView()).value_or(PlaneId{});
    const uint64_t blocks = reader.GetTableProperties()->num_entries / (last.plane + 1);
    return {last.number + 1 - std::min(blocks, last.number + 1), 0};
  }

  void VerifyRecordFile(rocksdb::SstFileReader& reader) {
    const std::unique_ptr<rocksdb::Iterator> i(reader.NewIterator({}));
    for (i->SeekToFirst(); i->Valid(); i->Next()) {
      const bool whole = CheckRecord(i->key().ToStringView(), i->value().ToStringView()).ok();
      ++(whole ? report_.records : report_.lost_records);
    }
    if (!i->status().ok()) ++report_.lost_records;
  }

  Status VerifyRecords() {
    ColumnFamily copies[2];
    for (const ColumnFamily& family : database_->families) {
      if (family->GetName() == kRecordsA) copies[0] = family;
      if (family->GetName() == kRecordsB) copies[1] = family;
    }
    for (const size_t i : {size_t{0}, size_t{1}}) {
      if (copies[i] != nullptr) continue;
      ++report_.damaged_copies;
      Find("one copy of the records is missing");
      copies[i] = copies[1 - i];
    }
    if (copies[0] == nullptr) {
      ++report_.lost_records;
      return OkStatus();
    }
    const std::string begin(1, static_cast<char>(1));  // without the database's own
    const std::string end(1, '\xff');
    const auto walk =
        WalkRecords(*database_->db, copies[0].get(), copies[1].get(), begin, end,
                    [this](std::string_view key, std::string_view value) {
                      if (options_.record) {
                        options_.record(static_cast<RecordKind>(key[0]), key.substr(1), value);
                      }
                    });
    PASSBAND_RETURN_IF_ERROR(walk.status());
    report_.records = walk->records;
    report_.damaged_copies += walk->damaged_a + walk->damaged_b;
    report_.lost_records += walk->lost;
    return OkStatus();
  }

  const SpillVerifyOptions& options_;
  std::unique_ptr<SpillDirectory> directory_;
  RocksDbSetup setup_;
  std::unique_ptr<OpenDatabase> database_;
  SpillReport report_;
  uint64_t total_bytes_ = 0;
};

}  // namespace

bool SpillReport::Holds(const BlockAddress& address) const {
  const auto found = whole.find(address.generation);
  return found != whole.end() && address.number < found->second.size() &&
         found->second[address.number];
}

StatusOr<SpillReport> VerifySpill(const SpillVerifyOptions& options) {
  return Verifier(options).Run();
}

}  // namespace passband
