// Goal: a table file holds the bytes that were appended, whatever their sizes and whenever
// it was synced, and any part of it reads back as it is.
#include "kvstore/direct_files.h"

#include <gtest/gtest.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <vector>

#include "kvstore/io_buffers.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

class DirectFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.use_direct_reads = true;
    options_.use_direct_writes = true;
    random_.seed(seed_);
  }
  std::string Bytes(size_t n) {
    std::string bytes(n, '\0');
    for (char& c : bytes) c = static_cast<char>(random_());
    return bytes;
  }
  // A file of `size` bytes, appended in pieces, synced now and then; its content.
  std::string Write(const std::string& path, size_t size) {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    EXPECT_TRUE(files_->NewWritableFile(path, options_, &file, nullptr).ok());
    EXPECT_FALSE(file->use_direct_io()) << "RocksDB would align by itself";
    std::string content;
    while (content.size() < size) {
      const size_t most = random_() % 8 == 0 ? size : 40'000;
      const std::string piece = Bytes(std::min(size - content.size(), 1 + random_() % most));
      EXPECT_TRUE(file->Append(piece, {}, nullptr).ok());
      content += piece;
      if (random_() % 16 == 0) {
        EXPECT_TRUE(file->Sync({}, nullptr).ok());
        EXPECT_EQ(std::filesystem::file_size(path), content.size());
      }
    }
    EXPECT_EQ(file->GetFileSize({}, nullptr), size);
    EXPECT_TRUE(file->Sync({}, nullptr).ok());
    EXPECT_TRUE(file->Close({}, nullptr).ok());
    EXPECT_EQ(std::filesystem::file_size(path), size);
    return content;
  }

  const uint64_t seed_ = std::random_device{}();
  std::mt19937_64 random_;
  const test::TempFolder folder_;
  const std::unique_ptr<rocksdb::Env> env_ = MakeDirectEnv(*rocksdb::Env::Default());
  const std::shared_ptr<rocksdb::FileSystem> files_ = env_->GetFileSystem();
  rocksdb::FileOptions options_;
};

TEST_F(DirectFilesTest, AnyPartReadsBackAsItWasAppended) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  for (const size_t size : {size_t{1}, size_t{4096}, IoBuffers::kBytes - 1, IoBuffers::kBytes,
                            size_t{1} + 2 * IoBuffers::kBytes, size_t{9'000'001}}) {
    const std::string path = folder_ / (std::to_string(size) + ".sst");
    const std::string content = Write(path, size);
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    ASSERT_TRUE(files_->NewRandomAccessFile(path, options_, &file, nullptr).ok());
    for (int i = 0; i < 50; ++i) {
      const size_t offset = random_() % (size + 1);
      const size_t n = random_() % (i % 10 == 0 ? size + 100 : 100'000);
      std::string scratch(n, '\0');
      rocksdb::Slice got;
      ASSERT_TRUE(file->Read(offset, n, {}, &got, scratch.data(), nullptr).ok());
      ASSERT_EQ(got.ToStringView(), std::string_view(content).substr(offset, n));
    }
  }
}

TEST_F(DirectFilesTest, ManyReadsAtOnceGiveEachItsOwn) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  constexpr size_t kSize = 7'000'000;
  const std::string path = folder_ / "many.sst";
  const std::string content = Write(path, kSize);
  std::unique_ptr<rocksdb::FSRandomAccessFile> file;
  ASSERT_TRUE(files_->NewRandomAccessFile(path, options_, &file, nullptr).ok());
  for (int round = 0; round < 50; ++round) {
    std::vector<rocksdb::FSReadRequest> requests;
    std::vector<std::string> scratch(1 + random_() % 40);
    size_t at = random_() % kSize;
    for (std::string& bytes : scratch) {
      bytes.resize(random_() % (random_() % 8 == 0 ? 3'000'000 : 40'000));
      requests.push_back({.offset = at, .len = bytes.size(), .scratch = bytes.data()});
      at += bytes.size() + random_() % 3 * (random_() % 100'000);
    }
    if (round % 5 == 0) std::shuffle(requests.begin(), requests.end(), random_);
    ASSERT_TRUE(file->MultiRead(requests.data(), requests.size(), {}, nullptr).ok());
    for (const rocksdb::FSReadRequest& request : requests) {
      ASSERT_TRUE(request.status.ok());
      const size_t begin = std::min<size_t>(request.offset, kSize);
      ASSERT_EQ(request.result.ToStringView(),
                std::string_view(content).substr(begin, request.len));
    }
  }
}

TEST_F(DirectFilesTest, OtherFilesAreLeftAlone) {
  std::unique_ptr<rocksdb::FSWritableFile> file;
  ASSERT_TRUE(files_->NewWritableFile(folder_ / "000001.log", {}, &file, nullptr).ok());
  ASSERT_TRUE(file->Append("text", {}, nullptr).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ / "000001.log"), 4u) << "a log is not kept back";
}

}  // namespace
}  // namespace passband
