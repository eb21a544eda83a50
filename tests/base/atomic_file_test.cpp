// write_atomically: the new content whole, or the old file untouched and nothing left beside it.
#include "ecoformer/base/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "ecoformer/base/error.h"

namespace ecoformer {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class AtomicFileTest : public ::testing::Test {
 protected:
  AtomicFileTest()
      : folder_(fs::path(::testing::TempDir()) /
                ("atomic_file_" +
                 std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~AtomicFileTest() override { fs::remove_all(folder_); }

  static std::string content(const fs::path& path) {
    std::ifstream stream(path, std::ios::binary);
    std::ostringstream text;
    text << stream.rdbuf();
    return text.str();
  }

  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  /// The message of the Error that `action` throws, or nothing.
  template <typename Action>
  static std::string error_of(const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  fs::path folder_;
};

TEST_F(AtomicFileTest, WritesAndReplaces) {
  const fs::path path = folder_ / "file";
  write_atomically(path, "old");
  EXPECT_EQ(content(path), "old");
  // Both ways through the buffer: single characters, and pieces larger than it.
  const std::string large(200'000, 'x');
  write_atomically(path, [&](std::ostream& stream) {
    for (int i = 0; i < 100'000; ++i) stream.put('y');
    stream << large << 17;
  });
  EXPECT_EQ(content(path), std::string(100'000, 'y') + large + "17");
  write_atomically(path, "");
  EXPECT_EQ(content(path), "");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(AtomicFileTest, FollowsUmask) {
  const mode_t before = ::umask(027);
  write_atomically(folder_ / "file", "text");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0640U);
}

TEST_F(AtomicFileTest, WritesThroughLinks) {
  write_atomically(folder_ / "file", "old");
  fs::create_symlink("file", folder_ / "link");
  write_atomically(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(content(folder_ / "file"), "new");
}

TEST_F(AtomicFileTest, ThrowingWriterLeavesOldFile) {
  const fs::path path = folder_ / "file";
  write_atomically(path, "old");
  EXPECT_THROW(write_atomically(path,
                                [](std::ostream& stream) {
                                  stream << "new";
                                  throw std::logic_error("writer");
                                }),
               std::logic_error);
  EXPECT_EQ(error_of([&] {
              write_atomically(path,
                               [](std::ostream& stream) { stream.setstate(std::ios::failbit); });
            }),
            "write " + path.string() + ": expected a good stream, got a failed one");
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(AtomicFileTest, FullDiskLeavesOldFile) {
  const fs::path path = folder_ / "file";
  write_atomically(path, "old");
  // A limit on the size of files fails write(2) in the middle, as a full disk does.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limited{.rlim_cur = 100'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  const std::string whole = error_of([&] { write_atomically(path, std::string(200'000, 'x')); });
  const std::string buffered = error_of([&] {
    write_atomically(path, [](std::ostream& stream) {
      for (int i = 0; i < 200'000; ++i) stream.put('y');
    });
  });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  const std::string expected =
      "write " + path.string() + ": expected all bytes to reach the disk, got 'File too large'";
  EXPECT_EQ(whole, expected);
  EXPECT_EQ(buffered, expected);
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(AtomicFileTest, ReadOnlyFolderLeavesOldFile) {
  const fs::path path = folder_ / "file";
  write_atomically(path, "old");
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  // Root may write anywhere, so be nobody for a moment.
  const bool is_root = ::geteuid() == 0;
  ASSERT_EQ(::seteuid(is_root ? 65534 : ::geteuid()), 0);
  const std::string message = error_of([&] { write_atomically(path, "new"); });
  ASSERT_EQ(::seteuid(is_root ? 0 : ::geteuid()), 0);
  fs::permissions(folder_, fs::perms::owner_all);
  EXPECT_THAT(message, HasSubstr("write " + path.string()));
  EXPECT_THAT(message, HasSubstr("'Permission denied'"));
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(AtomicFileTest, RefusesWhatIsNoFile) {
  const auto write_to = [](const fs::path& path) {
    return error_of([&] { write_atomically(path, "text"); });
  };
  EXPECT_EQ(write_to(folder_ / "none" / "file"),
            "write " + (folder_ / "none" / "file").string() +
                ": expected a folder that exists and can be written to, got 'No such file or "
                "directory'");
  EXPECT_THAT(write_to(folder_), HasSubstr("got a folder"));
  EXPECT_THAT(write_to(folder_ / ""), HasSubstr("got a folder"));
  EXPECT_THAT(write_to(""), HasSubstr("got a folder"));
  // Renaming over a device would destroy it.
  EXPECT_THAT(write_to("/dev/full"), HasSubstr("got a special file"));
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
  EXPECT_EQ(entries(), 0U);
}

}  // namespace
}  // namespace ecoformer
