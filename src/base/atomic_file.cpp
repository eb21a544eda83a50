// Atomic writes with POSIX calls: a stream over a file descriptor keeps the system's reason for a
// failed write, which std::ofstream forgets, and lets the content be synchronised before the
// rename.
#include "ecoformer/base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <streambuf>
#include <string>
#include <system_error>
#include <utility>

#include "ecoformer/base/error.h"

namespace ecoformer {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view expected, int reason) {
  throw Error(fmt::format("write {}: expected {}, got '{}'", path.string(), expected,
                          std::generic_category().message(reason)));
}

/// Buffers what a stream writes into a descriptor and remembers why the first write failed.
class DescriptorBuffer : public std::streambuf {
 public:
  explicit DescriptorBuffer(int descriptor) : descriptor_(descriptor) { reset(); }

  int reason() const { return reason_; }

 protected:
  int sync() override {
    const bool written =
        write_all(buffer_.data(), static_cast<std::size_t>(pptr() - buffer_.data()));
    reset();
    return written ? 0 : -1;
  }

  int_type overflow(int_type next) override {
    if (sync() != 0) return traits_type::eof();
    if (!traits_type::eq_int_type(next, traits_type::eof())) {
      *pptr() = traits_type::to_char_type(next);
      pbump(1);
    }
    return traits_type::not_eof(next);
  }

  std::streamsize xsputn(const char* data, std::streamsize size) override {
    if (size < epptr() - pptr()) return std::streambuf::xsputn(data, size);
    // Large pieces, such as tensors, skip the buffer.
    if (sync() != 0 || !write_all(data, static_cast<std::size_t>(size))) return 0;
    return size;
  }

 private:
  void reset() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }

  bool write_all(const char* data, std::size_t size) {
    while (size > 0 && reason_ == 0) {
      const ssize_t written = ::write(descriptor_, data, size);
      if (written < 0) {
        if (errno != EINTR) reason_ = errno;
        continue;
      }
      data += written;
      size -= static_cast<std::size_t>(written);
    }
    return reason_ == 0;
  }

  int descriptor_;
  int reason_ = 0;
  std::array<char, 1 << 16> buffer_;
};

/// A file of a new name in the target's folder, removed on destruction unless it was renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(fs::path target) : target_(std::move(target)) {
    static std::atomic<unsigned> counter{0};
    do {
      path_ = target_.parent_path() /
              fmt::format(".{}.{}-{}.tmp", target_.filename().string(), ::getpid(), counter++);
      // Not mkstemp: its mode 0600 would ignore the umask.
      descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && (errno == EEXIST || errno == EINTR));
    if (descriptor_ < 0) fail(target_, "a folder that exists and can be written to", errno);
  }

  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  int descriptor() const { return descriptor_; }

  void commit() {
    if (::fsync(descriptor_) != 0) fail(target_, "all bytes to reach the disk", errno);
    // Some file systems report a full disk only here.
    if (::close(std::exchange(descriptor_, -1)) != 0) {
      fail(target_, "all bytes to reach the disk", errno);
    }
    if (::rename(path_.c_str(), target_.c_str()) != 0) {
      fail(target_, "a file that can be replaced", errno);
    }
    path_.clear();
  }

 private:
  fs::path target_;
  fs::path path_;
  int descriptor_ = -1;
};

/// Makes a rename in `folder` survive a power cut. By now the new file is in place, so a file
/// system that cannot synchronise folders is no reason to report a failed write.
void synchronise_folder(const fs::path& folder) {
  const int descriptor =
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

void write_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  std::error_code ignored;
  // A link stays a link; the file it points to is replaced.
  const fs::path target =
      fs::is_symlink(path, ignored) ? fs::weakly_canonical(path, ignored) : path;
  const fs::file_status status = fs::status(target, ignored);
  if (!target.has_filename() || (fs::exists(status) && !fs::is_regular_file(status))) {
    // A rename would replace a device such as /dev/null by a file.
    throw Error(fmt::format(
        "write {}: expected the name of a regular file, got a {}", path.string(),
        fs::is_directory(status) || !target.has_filename() ? "folder" : "special file"));
  }

  TemporaryFile file(target);
  DescriptorBuffer buffer(file.descriptor());
  std::ostream stream(&buffer);
  write(stream);
  stream.flush();
  if (buffer.reason() != 0) fail(path, "all bytes to reach the disk", buffer.reason());
  if (!stream)
    throw Error(fmt::format("write {}: expected a good stream, got a failed one", path.string()));
  file.commit();
  synchronise_folder(target.parent_path());
}

void write_atomically(const fs::path& path, std::string_view content) {
  write_atomically(path, [content](std::ostream& stream) {
    stream.write(content.data(), static_cast<std::streamsize>(content.size()));
  });
}

}  // namespace ecoformer
