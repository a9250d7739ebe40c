// Compiled kernels on disk, one file each, named by their key. Every failure here, from an unset HOME to a full disk or
// a damaged file, means a compile and nothing else. Called by image.cpp; `upconv cache` lists and clears.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jit/compiler.hpp"
#include "jit/digest.hpp"

namespace upconv::jit {

/// What the list shows of a file. `about` was given to store().
struct CacheEntry {
  std::string path;
  std::string about;  ///< Empty: not a file that load() would take.
  std::uint64_t bytes = 0;
  double age_seconds = 0.0;
};

/// A kernel being made by this process: others that want it wait. Ends with the object, or with the process.
class Claim {
 public:
  Claim() = default;
  Claim(std::string path, int file) : path_(std::move(path)), file_(file) {}
  Claim(Claim&& other) noexcept;
  Claim& operator=(Claim&&) = delete;
  ~Claim();

 private:
  std::string path_;
  int file_ = -1;
};

class Cache {
 public:
  /// Keeps its files in `folder`, which is created when first written to. An empty name: keeps nothing.
  explicit Cache(std::string folder) : folder_(std::move(folder)) {}

  [[nodiscard]] const std::string& folder() const { return folder_; }

  /// The image stored under `key`, when it is there and whole.
  [[nodiscard]] std::optional<Image> load(const Digest& key) const;

  /// Stores an image so that a reader sees the whole file or none, whatever happens to this process. `about` is one
  /// line for people, to which the image's notes are added. False: nothing was stored.
  bool store(const Digest& key, const Image& image, std::string_view about) const;

  /// Waits until no other process is making `key`, at most `patience`. Having waited in vain, or being unable to
  /// tell, is no error: two processes then make the same file.
  [[nodiscard]] Claim claim(const Digest& key, std::chrono::milliseconds patience = std::chrono::seconds(60)) const;

  [[nodiscard]] std::vector<CacheEntry> entries() const;
  /// Removes every entry, lock and unfinished file; how many bytes that freed.
  std::uint64_t clear() const;

 private:
  [[nodiscard]] std::string path_of(const Digest& key, std::string_view suffix) const;
  std::string folder_;
};

/// The folder by the environment: UPCONV_CACHE_DIR, else upconv in XDG_CACHE_HOME, else ~/.cache/upconv; empty, so that
/// nothing is kept, when UPCONV_CACHE_DIR is set to nothing or there is no HOME either.
std::string cache_folder();

/// The user's cache, by the environment as it was at the first call.
const Cache& user_cache();

/// Writes the source of a failed compile to NAME.cu, in the cache's folder "failed" or else among the system's
/// temporary files; its path, or nothing when neither can be written.
std::string save_source(const std::string& name, const std::string& text);

}  // namespace upconv::jit
