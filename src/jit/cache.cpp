// See cache.hpp. A file is: 8 bytes of magic, SHA-256 of all that follows, the key, four 64-bit little-endian numbers
// (PTX or not, length of the line about it, length of the code, microseconds of its compile), the line, the code. The
// line ends with the image's notes where it has any, behind " | ".
#include "jit/cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>

namespace upconv::jit {
namespace {

namespace fs = std::filesystem;
static_assert(std::endian::native == std::endian::little, "the cache's files are little-endian");

constexpr char magic[8] = {'u', 'p', 'c', 'o', 'n', 'v', 'k', '1'};
constexpr std::string_view before_notes = " | ";
constexpr std::string_view entry_suffix = ".kernel", lock_suffix = ".lock", unfinished_prefix = ".unfinished-";
constexpr std::uint64_t largest_file = 256u << 20;
constexpr auto unfinished_for_sure = std::chrono::hours(1);

struct Header {
  char magic[8];
  Digest sum;
  Digest key;
  std::uint64_t ptx, about_bytes, code_bytes, microseconds;
};
static_assert(sizeof(Header) == 104);

/// A file descriptor that closes itself.
struct File {
  int number;
  explicit File(int n) : number(n) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (number >= 0) close(number);
  }
};

bool read_all(int file, char* to, std::size_t size) {
  while (size > 0) {
    const ssize_t got = read(file, to, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got, size -= static_cast<std::size_t>(got);
  }
  return true;
}

bool write_all(int file, std::string_view from) {
  while (!from.empty()) {
    const ssize_t put = write(file, from.data(), from.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    from.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

/// The header and what follows it, when they are those of an entry with the right length and checksum.
bool read_entry(const std::string& path, Header& header, std::string& rest) {
  const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (file.number < 0 || fstat(file.number, &info) != 0 || !S_ISREG(info.st_mode)) return false;
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size < sizeof header || size > largest_file) return false;
  std::string content(size, '\0');
  if (!read_all(file.number, content.data(), content.size())) return false;
  std::memcpy(&header, content.data(), sizeof header);
  if (std::memcmp(header.magic, magic, sizeof magic) != 0 || header.about_bytes > size || header.code_bytes > size ||
      sizeof header + header.about_bytes + header.code_bytes != size)
    return false;
  constexpr std::size_t covered = sizeof header.magic + sizeof header.sum;
  if (sha256(std::string_view(content).substr(covered)) != header.sum) return false;
  rest = content.substr(sizeof header);
  return true;
}

/// What a writer that was killed left behind.
void sweep(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (!entry.path().filename().string().starts_with(unfinished_prefix)) continue;
    const auto written = entry.last_write_time(ignored);
    if (!ignored && fs::file_time_type::clock::now() - written > unfinished_for_sure) fs::remove(entry.path(), ignored);
  }
}

/// Creates the folder and those above it, for this user alone.
bool make_folder(const std::string& folder) {
  std::error_code error;
  if (fs::is_directory(folder, error)) return true;
  const fs::path parent = fs::path(folder).parent_path();
  if (!parent.empty() && !fs::is_directory(parent, error)) {
    if (!make_folder(parent.string())) return false;
  }
  return mkdir(folder.c_str(), 0700) == 0 || fs::is_directory(folder, error);
}

/// Writes a file under a name of its own and renames it to `path` once it is on the disk.
bool write_whole(const std::string& folder, const std::string& path, std::initializer_list<std::string_view> pieces) {
  std::string unfinished = folder + "/" + std::string(unfinished_prefix) + "XXXXXX";
  bool whole = false;
  {
    const File file(mkostemp(unfinished.data(), O_CLOEXEC));
    if (file.number < 0) return false;
    whole = true;
    for (const std::string_view piece : pieces) whole = whole && write_all(file.number, piece);
    whole = whole && fsync(file.number) == 0;
  }
  if (whole && rename(unfinished.c_str(), path.c_str()) == 0) return true;
  unlink(unfinished.c_str());
  return false;
}

}  // namespace

Claim::Claim(Claim&& other) noexcept : path_(std::move(other.path_)), file_(other.file_) { other.file_ = -1; }

Claim::~Claim() {
  if (file_ < 0) return;
  // Whoever waits on this file still gets it, looks into the cache first, and finds the kernel.
  unlink(path_.c_str());
  close(file_);
}

std::string Cache::path_of(const Digest& key, std::string_view suffix) const {
  return folder_ + "/" + to_hex(key) + std::string(suffix);
}

std::optional<Image> Cache::load(const Digest& key) const {
  if (folder_.empty()) return std::nullopt;
  Header header;
  std::string rest;
  if (!read_entry(path_of(key, entry_suffix), header, rest) || header.key != key) return std::nullopt;
  Image image{rest.substr(header.about_bytes), header.ptx != 0, 1e-6 * static_cast<double>(header.microseconds), {}};
  const std::string_view about = std::string_view(rest).substr(0, header.about_bytes);
  if (const auto at = about.find(before_notes); at != std::string_view::npos)
    image.notes = about.substr(at + before_notes.size());
  return image;
}

bool Cache::store(const Digest& key, const Image& image, std::string_view about_image) const {
  if (folder_.empty() || !make_folder(folder_)) return false;
  std::string about(about_image);
  if (!image.notes.empty()) about += std::string(before_notes) + image.notes;
  sweep(folder_);
  Header header{};
  std::memcpy(header.magic, magic, sizeof magic);
  header.key = key;
  header.ptx = image.ptx ? 1 : 0;
  header.about_bytes = about.size();
  header.code_bytes = image.code.size();
  header.microseconds = static_cast<std::uint64_t>(1e6 * image.seconds);
  constexpr std::size_t covered = sizeof header.magic + sizeof header.sum;
  const std::string_view head(reinterpret_cast<const char*>(&header), sizeof header);
  header.sum = Sha256{}.bytes(head.substr(covered)).bytes(about).bytes(image.code).digest();
  return write_whole(folder_, path_of(key, entry_suffix), {head, about, image.code});
}

Claim Cache::claim(const Digest& key, std::chrono::milliseconds patience) const {
  if (folder_.empty() || !make_folder(folder_)) return {};
  const std::string path = path_of(key, lock_suffix);
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return {};
  const auto end = std::chrono::steady_clock::now() + patience;
  while (flock(file, LOCK_EX | LOCK_NB) != 0) {
    if ((errno != EWOULDBLOCK && errno != EINTR) || std::chrono::steady_clock::now() >= end) {
      close(file);
      return {};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {path, file};
}

std::vector<CacheEntry> Cache::entries() const {
  std::vector<CacheEntry> all;
  std::error_code ignored;
  if (folder_.empty()) return all;
  const auto now = fs::file_time_type::clock::now();
  for (const auto& file : fs::directory_iterator(folder_, ignored)) {
    if (file.path().extension() != entry_suffix) continue;
    CacheEntry e;
    e.path = file.path().string();
    std::error_code gone;
    e.bytes = file.file_size(gone);
    if (gone) continue;
    e.age_seconds = std::chrono::duration<double>(now - file.last_write_time(gone)).count();
    Header header;
    std::string rest;
    if (read_entry(e.path, header, rest)) e.about = rest.substr(0, header.about_bytes);
    all.push_back(std::move(e));
  }
  return all;
}

std::uint64_t Cache::clear() const {
  std::uint64_t freed = 0;
  std::error_code ignored;
  if (folder_.empty()) return 0;
  const auto remove = [&](const fs::path& path) {
    std::error_code gone;
    const auto bytes = fs::file_size(path, gone);
    if (fs::remove(path, ignored) && !gone) freed += bytes;
  };
  std::vector<fs::path> files;
  for (const auto& file : fs::directory_iterator(folder_, ignored)) {
    const std::string extension = file.path().extension().string();
    if (extension == entry_suffix || extension == lock_suffix ||
        file.path().filename().string().starts_with(unfinished_prefix))
      files.push_back(file.path());
  }
  for (const auto& file : fs::directory_iterator(folder_ + "/failed", ignored))
    if (file.path().extension() == ".cu") files.push_back(file.path());
  for (const fs::path& path : files) remove(path);
  return freed;
}

std::string cache_folder() {
  if (const char* chosen = std::getenv("UPCONV_CACHE_DIR")) {
    std::error_code error;
    return *chosen ? fs::absolute(chosen, error).string() : std::string();
  }
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && xdg[0] == '/') return std::string(xdg) + "/upconv";
  if (const char* home = std::getenv("HOME"); home && home[0] == '/') return std::string(home) + "/.cache/upconv";
  return {};
}

const Cache& user_cache() {
  static const auto* cache = new Cache(cache_folder());
  return *cache;
}

std::string save_source(const std::string& name, const std::string& text) {
  const std::string& kept = user_cache().folder();
  if (!kept.empty()) {
    const std::string folder = kept + "/failed", path = folder + "/" + name + ".cu";
    if (make_folder(folder) && write_whole(folder, path, {text})) return path;
  }
  std::error_code error;
  const fs::path system = fs::temp_directory_path(error);
  if (error) return {};
  std::string path = (system / ("upconv-" + name + "-XXXXXX.cu")).string();
  const File file(mkostemps(path.data(), 3, O_CLOEXEC));
  if (file.number < 0) return {};
  if (write_all(file.number, text)) return path;
  unlink(path.c_str());
  return {};
}

}  // namespace upconv::jit
