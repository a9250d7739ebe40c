// The disk cache: what is stored is loaded whole or not at all, whatever happened to the file, the folder, the disk or
// the writer; and of many processes one compiles.
#include "jit/cache.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "jit/environment.hpp"

namespace upconv::jit::testing {
namespace {

namespace fs = std::filesystem;

const Digest key = sha256("a key"), other = sha256("another key");

std::string contents(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const fs::path& file, const std::string& text) { std::ofstream(file, std::ios::binary) << text; }

/// The one entry of a folder.
fs::path entry_in(const fs::path& folder) {
  for (const auto& file : fs::directory_iterator(folder))
    if (file.path().extension() == ".kernel") return file.path();
  return {};
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// An environment variable for the length of a test; null unsets it.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* was = std::getenv(name)) was_ = was;
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { was_ ? setenv(name_, was_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> was_;
};

TEST(Cache, KeepsWhatIsStored) {
  const auto folder = new_folder() / "made" / "when needed";
  const Cache cache(folder.string());
  EXPECT_FALSE(cache.load(key));
  const std::string code("code\0with a zero", 16);
  ASSERT_TRUE(cache.store(key, {code, false, 0.5}, "about it"));
  ASSERT_TRUE(cache.store(other, {"ptx", true, 0.5}, ""));
  ASSERT_TRUE(cache.load(key));
  EXPECT_EQ(cache.load(key)->code, code);
  EXPECT_FALSE(cache.load(key)->ptx);
  EXPECT_TRUE(cache.load(other)->ptx);
  EXPECT_EQ(files_in(folder), 2u) << "nothing unfinished is left";
  struct stat info {};
  ASSERT_EQ(stat(folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u) << "for this user alone";
}

TEST(Cache, StoringAgainReplaces) {
  const Cache cache(new_folder().string());
  ASSERT_TRUE(cache.store(key, {"first", false, 0.5}, ""));
  ASSERT_TRUE(cache.store(key, {"second", false, 0.5}, ""));
  EXPECT_EQ(cache.load(key)->code, "second");
}

TEST(Cache, EveryTruncationIsAMiss) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  ASSERT_TRUE(cache.store(key, {"some code", false, 0.5}, "about"));
  const std::string whole = contents(entry_in(folder));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write(entry_in(folder), whole.substr(0, size));
    EXPECT_FALSE(cache.load(key)) << size;
  }
  write(entry_in(folder), whole + "x");
  EXPECT_FALSE(cache.load(key)) << "longer";
  write(entry_in(folder), whole);
  EXPECT_TRUE(cache.load(key));
}

TEST(Cache, EveryAlteredByteIsAMiss) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  ASSERT_TRUE(cache.store(key, {"some code", false, 0.5}, "about"));
  const std::string whole = contents(entry_in(folder));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string altered = whole;
    altered[at] = static_cast<char>(altered[at] ^ 0x10);
    write(entry_in(folder), altered);
    EXPECT_FALSE(cache.load(key)) << at;
  }
  ASSERT_TRUE(cache.store(key, {"again", false, 0.5}, "")) << "a damaged entry is replaced";
  EXPECT_EQ(cache.load(key)->code, "again");
}

TEST(Cache, AnEntryUnderAnotherNameIsAMiss) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  ASSERT_TRUE(cache.store(key, {"code", false, 0.5}, ""));
  fs::rename(entry_in(folder), folder / (to_hex(other) + ".kernel"));
  EXPECT_FALSE(cache.load(other));
}

TEST(Cache, WithoutAFolderNothingIsKept) {
  const Cache cache("");
  EXPECT_FALSE(cache.store(key, {"code", false, 0.5}, ""));
  EXPECT_FALSE(cache.load(key));
  EXPECT_TRUE(cache.entries().empty());
  EXPECT_EQ(cache.clear(), 0u);
  const Claim claim = cache.claim(key);  // does not wait
}

TEST(Cache, AFolderThatCannotBeMade) {
  const auto folder = new_folder();
  write(folder / "file", "not a folder");
  const Cache cache((folder / "file" / "cache").string());
  EXPECT_FALSE(cache.store(key, {"code", false, 0.5}, ""));
  EXPECT_FALSE(cache.load(key));
  const Claim claim = cache.claim(key);
}

TEST(Cache, AReadOnlyFolder) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write anywhere; ASystemFolder stands in";
  const auto folder = new_folder();
  const Cache cache(folder.string());
  ASSERT_TRUE(cache.store(key, {"code", false, 0.5}, ""));
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_FALSE(cache.store(other, {"code", false, 0.5}, ""));
  EXPECT_TRUE(cache.load(key)) << "what is there can be read";
  const Claim claim = cache.claim(other);
  fs::permissions(folder, fs::perms::owner_all);
}

TEST(Cache, ASystemFolder) {  // not even root can write here
  const Cache cache("/proc/upconv");
  EXPECT_FALSE(cache.store(key, {"code", false, 0.5}, ""));
  EXPECT_FALSE(cache.load(key));
  const Claim claim = cache.claim(key);
}

TEST(Cache, AFullDisk) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  struct rlimit was {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &was), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // so that write() fails as on a full disk
  struct rlimit small = was;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const bool stored = cache.store(key, {std::string(100000, 'x'), false, 0.5}, "");
  setrlimit(RLIMIT_FSIZE, &was);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(stored);
  EXPECT_FALSE(cache.load(key));
  EXPECT_EQ(files_in(folder), 0u) << "the part that was written is gone";
}

TEST(Cache, ListsAndClears) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  ASSERT_TRUE(cache.store(key, {"code", false, 0.5}, "what it is"));
  write(folder / (to_hex(other) + ".kernel"), "damaged");
  write(folder / "mine.txt", "not the cache's");
  auto entries = cache.entries();
  ASSERT_EQ(entries.size(), 2u);
  const auto& good = entries[0].about.empty() ? entries[1] : entries[0];
  const auto& bad = entries[0].about.empty() ? entries[0] : entries[1];
  EXPECT_EQ(good.about, "what it is");
  EXPECT_EQ(good.bytes, fs::file_size(good.path));
  EXPECT_EQ(bad.about, "");
  EXPECT_GE(cache.clear(), good.bytes);
  EXPECT_EQ(cache.entries().size(), 0u);
  EXPECT_EQ(files_in(folder), 1u) << "a file of another name stays";
}

TEST(Cache, WhereItLies) {
  const Variable none("UPCONV_CACHE_DIR", nullptr), home("HOME", "/home/me"), no_xdg("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(cache_folder(), "/home/me/.cache/upconv");
  const Variable xdg("XDG_CACHE_HOME", "/var/me");
  EXPECT_EQ(cache_folder(), "/var/me/upconv");
  {
    const Variable relative("XDG_CACHE_HOME", "me");
    EXPECT_EQ(cache_folder(), "/home/me/.cache/upconv") << "a relative XDG_CACHE_HOME is to be ignored";
    const Variable homeless("HOME", nullptr);
    EXPECT_EQ(cache_folder(), "");
  }
  const Variable chosen("UPCONV_CACHE_DIR", "/kernels");
  EXPECT_EQ(cache_folder(), "/kernels");
  const Variable off("UPCONV_CACHE_DIR", "");
  EXPECT_EQ(cache_folder(), "") << "set to nothing: no cache";
}

TEST(Cache, ASourceIsSavedSomewhere) {
  const std::string saved = save_source("probe-1", "the source");
  EXPECT_EQ(contents(saved), "the source") << saved;
}

TEST(CacheProcesses, AKilledWriterLeavesNoHalfEntry) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  for (int round = 0; round < 6; ++round) {
    const int writer = start_role({"store", folder.string()});
    ASSERT_GT(writer, 0);
    for (int waited = 0; waited < 20000 && cache.entries().empty(); waited += 5)  // a busy machine starts it late
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::this_thread::sleep_for(std::chrono::milliseconds(60 + 7 * round));
    kill(writer, SIGKILL);
    EXPECT_EQ(finish(writer), -SIGKILL);
    for (const CacheEntry& e : cache.entries()) EXPECT_NE(e.about, "") << e.path << " is damaged";
  }
  EXPECT_FALSE(cache.entries().empty());
}

TEST(CacheProcesses, WhatAKilledWriterLeftIsSweptInTime) {
  const auto folder = new_folder();
  write(folder / ".unfinished-old", "half");
  write(folder / ".unfinished-new", "half");
  fs::last_write_time(folder / ".unfinished-old", fs::file_time_type::clock::now() - std::chrono::hours(2));
  ASSERT_TRUE(Cache(folder.string()).store(key, {"code", false, 0.5}, ""));
  EXPECT_FALSE(fs::exists(folder / ".unfinished-old"));
  EXPECT_TRUE(fs::exists(folder / ".unfinished-new")) << "its writer may be at work";
}

TEST(CacheProcesses, AClaimEndsWithItsProcess) {
  const auto folder = new_folder();
  const Cache cache(folder.string());
  const int holder = start_role({"claim", folder.string()});
  ASSERT_GT(holder, 0);
  while (!fs::exists(folder / "claimed")) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto begin = std::chrono::steady_clock::now();
  { const Claim in_vain = cache.claim(sha256("claimed"), std::chrono::milliseconds(200)); }
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(200)) << "held by the other process";
  EXPECT_TRUE(fs::exists(folder / (to_hex(sha256("claimed")) + ".lock"))) << "and still held";
  kill(holder, SIGKILL);
  EXPECT_EQ(finish(holder), -SIGKILL);
  const auto after = std::chrono::steady_clock::now();
  { const Claim free = cache.claim(sha256("claimed")); }
  EXPECT_LT(std::chrono::steady_clock::now() - after, std::chrono::seconds(5));
}

TEST(CacheProcesses, OfManyOnAColdKeyOneCompiles) {
  UPCONV_NEEDS_NVRTC();
  const auto folder = new_folder();
  std::vector<int> processes;
  for (int i = 0; i < 8; ++i) processes.push_back(start_role({"make", folder.string(), "wanted by eight processes"}));
  int compiled = 0, loaded = 0;
  for (const int p : processes) {
    const int code = finish(p);
    compiled += code == 10;
    loaded += code == 11;
  }
  EXPECT_EQ(compiled, 1);
  EXPECT_EQ(loaded, 7);
  EXPECT_EQ(files_in(folder), 1u) << "no lock and nothing unfinished is left";
}

TEST(CacheProcesses, AKilledCompilerIsReplaced) {
  UPCONV_NEEDS_NVRTC();
  const auto folder = new_folder();
  const int first = start_role({"make", folder.string(), "its compiler is killed"});
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  kill(first, SIGKILL);
  finish(first);
  const int code = finish(start_role({"make", folder.string(), "its compiler is killed"}));
  EXPECT_TRUE(code == 10 || code == 11) << code;
}

}  // namespace
}  // namespace upconv::jit::testing
