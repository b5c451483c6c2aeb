#include "kvstore/rocksdb_tier.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/thread.h"
#include "base/units.h"
#include "kvstore/spill_format.h"

namespace passband {
namespace {

// Properties, index root and footer of a file that is not written yet.
constexpr uint64_t kFileBytes = 8 * kKiB;
// RocksDB's own part of a key.
constexpr uint64_t kInternalKeyBytes = 8;

uint64_t WallMilliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

uint64_t BlockCharge(uint64_t block_bytes, uint32_t planes) {
  return ChargeOf(planes,
                  block_bytes + planes * (kPlaneKeyBytes + kInternalKeyBytes + kPlaneHeaderBytes));
}

Status CheckShape(uint64_t bytes, uint32_t planes) {
  if (planes == 0 || planes > kMaxPlanes || bytes == 0 || bytes % planes != 0) {
    return Error(StatusCode::kInvalidArgument, "a block of {} bytes in {} planes", bytes, planes);
  }
  return OkStatus();
}

// Which generation is which block's, from the names and files of what is there.
void AdoptAll(rocksdb::DB& db, const std::vector<ColumnFamily>& families, GenerationTable& table) {
  for (const ColumnFamily& family : families) {
    const auto name = ParseGenerationName(family->GetName());
    PASSBAND_CHECK(name.has_value());
    rocksdb::ColumnFamilyMetaData contents;
    db.GetColumnFamilyMetaData(family.get(), &contents);
    uint64_t end = 0;
    for (const rocksdb::LevelMetaData& level : contents.levels) {
      for (const rocksdb::SstFileMetaData& file : level.files) {
        const auto last = ParsePlaneKey(file.largestkey);
        if (last.has_value()) end = std::max(end, last->number + 1);
      }
    }
    table.Adopt(name->generation, family, end);
  }
}

}  // namespace

// Values of the wanted planes of one block, in the order of planes.
struct RocksDbTier::PlaneValues {
  std::vector<uint32_t> planes;
  std::vector<rocksdb::PinnableSlice> values;
  std::vector<rocksdb::Status> statuses;

  PlaneValues(rocksdb::DB& db, const ColumnFamily& family, uint64_t number, PlaneSet wanted) {
    std::vector<PlaneKey> bytes;
    for (uint32_t plane = 0; plane < kMaxPlanes; ++plane) {
      if ((wanted >> plane & 1) == 0) continue;
      planes.push_back(plane);
      bytes.push_back(MakePlaneKey(number, plane));
    }
    std::vector<rocksdb::Slice> keys;
    keys.reserve(bytes.size());
    for (const PlaneKey& key : bytes) keys.emplace_back(key.data(), key.size());
    values = std::vector<rocksdb::PinnableSlice>(planes.size());
    statuses.resize(planes.size());
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    // One call: RocksDB reads neighbours at once.
    db.MultiGet(options, family.get(), keys.size(), keys.data(), values.data(), statuses.data(),
                /*sorted_input=*/true);
  }
};

RocksDbTier::RocksDbTier(const Options& options, Parts parts,
                         const std::vector<ColumnFamily>& generations, uint64_t reserved)
    : options_(options), parts_(std::move(parts)), reserved_(reserved) {
  AdoptAll(parts_.db, generations, generations_);
  thread_ = StartThread("pb-spill", [this](const std::stop_token& stop) { Run(stop); });
}

RocksDbTier::~RocksDbTier() {
  thread_.request_stop();
  thread_.join();
}

Status RocksDbTier::DeviceError() const {
  Status error = parts_.write_behind.error();
  if (error.ok()) return error;
  return WithRetryAfter(
      error, std::chrono::duration_cast<std::chrono::milliseconds>(options_.resume_interval));
}

uint64_t RocksDbTier::UsedBytes() const {
  const uint64_t pending = parts_.write_behind.pending_bytes();
  return parts_.files.GetTotalSize() + pending + (pending == 0 ? 0 : kFileBytes);
}

Status RocksDbTier::MakeRoom(uint64_t charge) {
  const auto fits = [&] { return UsedBytes() + charge + kFileBytes <= options_.capacity_bytes; };
  if (fits()) return OkStatus();
  ForgetDoomed();
  if (fits()) return OkStatus();
  return Error(StatusCode::kResourceExhausted, "the spill is full: {} of {} bytes in use",
               UsedBytes(), options_.capacity_bytes);
}

Status RocksDbTier::EnsureGeneration() {
  const auto active = generations_.active();
  if (active.has_value()) {
    const bool full = active->bytes >= options_.generation_bytes;
    const bool old = parts_.clock.Now() - active->begun >= options_.generation_age;
    if (!full && !(old && active->bytes != 0)) return OkStatus();
    PASSBAND_RETURN_IF_ERROR(CloseGeneration(active->family));
  }
  // Time as well as the last number: should the record of that be lost, addresses still
  // do not come again.
  const uint64_t generation =
      std::max({generations_.latest() + 1, reserved_ + 1, WallMilliseconds()});
  PASSBAND_RETURN_IF_ERROR(parts_.reserve(generation));
  reserved_ = generation;
  rocksdb::ColumnFamilyHandle* handle = nullptr;
  const rocksdb::Status created =
      parts_.db.CreateColumnFamily(MakeGenerationOptions(options_.setup),
                                   FormatGenerationName({.generation = generation}), &handle);
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(created, "beginning a generation"));
  generations_.Begin(generation, OwnFamily(parts_.db, handle), parts_.clock.Now());
  return OkStatus();
}

Status RocksDbTier::CloseGeneration(const ColumnFamily& family) {
  generations_.Close();
  rocksdb::FlushOptions options;
  options.wait = false;
  options.allow_write_stall = true;
  return FromRocksDb(parts_.db.Flush(options, family.get()), "closing a generation");
}

Status RocksDbTier::AwaitMemory(uint64_t charge) {
  const uint64_t limit = options_.memtable_bytes * options_.memtables;
  if (parts_.write_behind.pending_bytes() + charge <= limit) return OkStatus();
  const auto begin = std::chrono::steady_clock::now();
  Status status =
      parts_.write_behind.AwaitPending(limit - std::min(charge, limit), options_.stall_timeout);
  stall_ns_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
  return status;
}

Status RocksDbTier::Write(const GenerationTable::Active& active, std::span<const std::byte> block,
                          uint32_t planes) {
  const size_t plane_bytes = block.size() / planes;
  const PlaneShape shape{.block_bytes = block.size(), .planes = planes};
  rocksdb::WriteBatch batch(block.size() + planes * size_t{128});
  for (uint32_t plane = 0; plane < planes; ++plane) {
    const auto payload = block.subspan(plane * plane_bytes, plane_bytes);
    const PlaneKey key = MakePlaneKey(active.next.number, plane);
    const PlaneHeader header = MakePlaneHeader(active.next, plane, shape, payload);
    const rocksdb::Slice key_part(key.data(), key.size());
    const std::array<rocksdb::Slice, 2> parts = {
        rocksdb::Slice(header.data(), header.size()),
        rocksdb::Slice(reinterpret_cast<const char*>(payload.data()), payload.size())};
    PASSBAND_RETURN_IF_ERROR(
        FromRocksDb(batch.Put(active.family.get(), rocksdb::SliceParts(&key_part, 1),
                              rocksdb::SliceParts(parts.data(), static_cast<int>(parts.size()))),
                    "a batch of planes"));
  }
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  options.no_slowdown = true;  // AwaitMemory has waited, for a time that we know.
  const rocksdb::Status written = parts_.db.Write(options, &batch);
  Status status = FromRocksDb(written, "spilling a block");
  if (IsStopped(written)) parts_.write_behind.NoteRefusal(status);
  return status;
}

StatusOr<BlockAddress> RocksDbTier::Put(std::span<const std::byte> block, uint32_t planes) {
  PASSBAND_RETURN_IF_ERROR(CheckShape(block.size(), planes));
  PASSBAND_RETURN_IF_ERROR(DeviceError());
  const uint64_t charge = BlockCharge(block.size(), planes);
  MutexLock lock(write_mutex_);
  PASSBAND_RETURN_IF_ERROR(MakeRoom(charge));
  PASSBAND_RETURN_IF_ERROR(EnsureGeneration());
  PASSBAND_RETURN_IF_ERROR(AwaitMemory(charge));
  const auto active = generations_.active();
  PASSBAND_CHECK(active.has_value());
  const uint32_t family = active->family->GetID();
  // Before the write: the flush that takes it may end before the write returns.
  parts_.write_behind.Written(family, charge);
  if (const Status status = Write(*active, block, planes); !status.ok()) {
    parts_.write_behind.Flushed(family, charge);
    return status;
  }
  generations_.Add(charge);
  return active->next;
}

Status RocksDbTier::Flush() {
  PASSBAND_RETURN_IF_ERROR(DeviceError());
  WriteBehind::Mark mark;
  {
    MutexLock lock(write_mutex_);
    mark = parts_.write_behind.Now();
    rocksdb::FlushOptions options;
    options.wait = false;  // RocksDB would wait for ever when the device fails.
    options.allow_write_stall = true;
    for (const ColumnFamily& family : generations_.Families()) {
      if (!mark.contains(family->GetID())) continue;
      PASSBAND_RETURN_IF_ERROR(FromRocksDb(parts_.db.Flush(options, family.get()), "flushing"));
    }
  }
  const Status status = parts_.write_behind.AwaitFlushed(std::move(mark), options_.stall_timeout);
  return status.ok() ? status : Annotate(status, "flushing");
}

StatusOr<bool> RocksDbTier::Get(const BlockAddress& address, uint32_t planes, PlaneSet wanted,
                                std::span<std::byte> block) {
  PASSBAND_RETURN_IF_ERROR(CheckShape(block.size(), planes));
  if (planes < kMaxPlanes && wanted >> planes != 0) {
    return Error(StatusCode::kInvalidArgument, "planes {:#x} of {}", wanted, planes);
  }
  const ColumnFamily family = generations_.Find(address);
  if (family == nullptr) return false;
  const PlaneShape shape{.block_bytes = block.size(), .planes = planes};
  const PlaneValues got(parts_.db, family, address.number, wanted);
  // All of them before any is copied: on an error `block` is as it was.
  auto found = CheckValues(address, got, shape);
  if (found.ok() && *found == 0 && (wanted & 1) == 0) {
    // Not there, or a block of fewer planes?
    found = CheckValues(address, PlaneValues(parts_.db, family, address.number, 1), shape);
    if (found.ok()) found = 0;
  }
  PASSBAND_RETURN_IF_ERROR(found.status());
  if (*found != got.planes.size()) {
    ++lost_blocks_;
    if (*found == 0) return false;
    return Error(StatusCode::kDataLoss, "block {}.{} has {} of {} planes", address.generation,
                 address.number, *found, got.planes.size());
  }
  const size_t plane_bytes = block.size() / planes;
  for (size_t i = 0; i < got.planes.size(); ++i) {
    std::memcpy(block.data() + got.planes[i] * plane_bytes,
                got.values[i].data() + kPlaneHeaderBytes, plane_bytes);
  }
  return true;
}

// How many are there; all of those are whole and of this shape.
StatusOr<size_t> RocksDbTier::CheckValues(const BlockAddress& address, const PlaneValues& values,
                                          const PlaneShape& shape) {
  size_t present = 0;
  for (size_t i = 0; i < values.planes.size(); ++i) {
    const rocksdb::Status& status = values.statuses[i];
    if (status.IsNotFound()) continue;
    const StatusOr<PlaneShape> found =
        status.ok() ? CheckPlane(address, values.planes[i], values.values[i].ToStringView())
                    : FromRocksDb(status, "reading a spilled block");
    if (!found.ok()) {
      damaged_planes_ += found.status().code() == StatusCode::kDataLoss ? 1 : 0;
      return found.status();
    }
    if (*found != shape) {
      return Error(StatusCode::kInvalidArgument, "block {}.{}: {} bytes in {} planes, not {} in {}",
                   address.generation, address.number, found->block_bytes, found->planes,
                   shape.block_bytes, shape.planes);
    }
    ++present;
  }
  return present;
}

void RocksDbTier::Drop(const BlockAddress& address) {
  if (!generations_.Drop(address)) return;
  MutexLock lock(work_mutex_);
  doomed_ = true;
  work_.notify_all();
}

StatusOr<uint64_t> RocksDbTier::DropOldest() {
  ForgetDoomed();
  auto taken = generations_.TakeOldestFull();
  if (!taken.has_value()) {
    return Error(StatusCode::kNotFound, "no generation of the spill is full");
  }
  const uint64_t generation = taken->generation;
  const Status status = Forget(*taken);
  if (!status.ok()) {
    // Its blocks are misses already; its space comes back when the device does.
    log::Warn("spill_generation_stays", {{"generation", generation}, {"why", status}});
    generations_.GiveBack(*std::move(taken));
  }
  return generation;
}

void RocksDbTier::Claim(const BlockAddress& address) { generations_.Claim(address); }

bool RocksDbTier::MayHold(const BlockAddress& address) const {
  return generations_.Covers(address);
}

Status RocksDbTier::DropUnclaimed() {
  generations_.DoomUnclaimed();
  ForgetDoomed();
  if (!generations_.any_doomed()) return OkStatus();
  return Error(StatusCode::kUnavailable,
               "generations of the spill that nobody wants could not be removed yet");
}

// Returns when the space is free, unless somebody still reads from it.
Status RocksDbTier::Forget(GenerationTable::Taken& taken) {
  const rocksdb::Status dropped = parts_.db.DropColumnFamily(taken.family.get());
  if (!dropped.ok()) return FromRocksDb(dropped, "dropping a generation");
  parts_.write_behind.Forget(taken.family->GetID());
  taken.family.reset();
  return OkStatus();
}

void RocksDbTier::ForgetDoomed() {
  // One at a time: whoever waits for space has it when this returns.
  MutexLock lock(forget_mutex_);
  while (auto taken = generations_.TakeDoomed()) {
    if (const Status status = Forget(*taken); !status.ok()) {
      generations_.GiveBack(*std::move(taken));
      return;
    }
  }
}

TierStats RocksDbTier::Stats() const {
  const GenerationTable::Counts counts = generations_.Count();
  return {.capacity_bytes = options_.capacity_bytes,
          .used_bytes = UsedBytes(),
          .blocks = counts.blocks,
          .generations = counts.generations};
}

RocksDbTier::Counters RocksDbTier::counters() const {
  return {.damaged_planes = damaged_planes_,
          .lost_blocks = lost_blocks_,
          .stall_seconds = static_cast<double>(stall_ns_) * 1e-9};
}

void RocksDbTier::TryResume() {
  const uint64_t seen = parts_.write_behind.errors();
  // Resume takes it for granted that files stay where the table of contents could not be
  // written, and aborts the process when an earlier try has let them go.
  parts_.db.DisableFileDeletions().PermitUncheckedError();
  Status status = FromRocksDb(parts_.db.Resume(), "resuming");
  parts_.db.EnableFileDeletions(/*force=*/false).PermitUncheckedError();
  if (status.ok()) status = parts_.mend();
  if (!status.ok()) {
    log::Debug("spill_resume_failed", {{"why", status}});
    return;
  }
  parts_.write_behind.ClearError(seen);
  log::Info("spill_device_back");
}

void RocksDbTier::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      MutexLock lock(work_mutex_);
      work_.wait_for(work_mutex_, stop, options_.resume_interval,
                     [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) { return doomed_; });
      doomed_ = false;
    }
    if (stop.stop_requested()) return;
    if (!parts_.write_behind.error().ok()) TryResume();
    if (generations_.any_doomed()) ForgetDoomed();
  }
}

}  // namespace passband
