// Entry of the tests of src/jit; see environment.hpp. With a role as arguments it is one of several processes of a
// test:
//   make FOLDER WORD     build probe(WORD) with the cache FOLDER: exit code 10 when compiled, 11 when loaded
//   store FOLDER         store entries until killed
//   claim FOLDER         claim a key, make the file FOLDER/claimed, hold it until killed
#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "jit/environment.hpp"
#include "jit/image.hpp"

extern char** environ;

#ifdef UPCONV_SANITIZED
extern "C" const char* __lsan_default_suppressions() { return "leak:libnvrtc\n"; }
#endif

namespace upconv::jit::testing {
namespace {

namespace fs = std::filesystem;

/// The folder of all folders, of the process that runs the tests.
class Root {
 public:
  Root() {
    std::string name = (fs::temp_directory_path() / "upconv-jit-XXXXXX").string();
    if (!mkdtemp(name.data())) std::abort();
    path = name;
  }
  ~Root() {
    std::error_code ignored;
    fs::permissions(path, fs::perms::owner_all, fs::perm_options::add, ignored);
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

Root& root() {
  static Root r;
  return r;
}

template <class T>
T* symbol(const char* variable, const char* library, const char* name) {
  const char* chosen = std::getenv(variable);
  if (!chosen || std::string(chosen) != library) return nullptr;
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  return handle ? static_cast<T*>(dlsym(handle, name)) : nullptr;
}

bool has_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  const auto init = library ? reinterpret_cast<int (*)(unsigned)>(dlsym(library, "cuInit")) : nullptr;
  return init && init(0) == 0;
}

int role(const std::vector<std::string>& words) {
  const Cache cache(words.at(1));
  if (words[0] == "make") {
    const auto built = build(probe(words.at(2)), "sm_90a", cache);
    if (!built.ok()) std::fprintf(stderr, "%s\n", built.status().message().c_str());
    return !built.ok() ? 1 : built->compiled ? 10 : 11;
  }
  if (words[0] == "store") {
    const Image image{std::string(1 << 20, 'x'), false, 0.5};
    for (int i = 0;; ++i) cache.store(sha256(std::to_string(i % 8)), image, "stored by a process that is killed");
  }
  if (words[0] == "claim") {
    const Claim claim = cache.claim(sha256("claimed"));
    std::ofstream(words[1] + "/claimed") << "yes";
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  return 2;
}

}  // namespace

FakeCuda* fake_driver() { return symbol<FakeCuda>("UPCONV_CUDA_DRIVER", UPCONV_FAKE_DRIVER, "fake_cuda"); }
CountingNvrtc* compiler() { return symbol<CountingNvrtc>("UPCONV_NVRTC", UPCONV_COUNTING_NVRTC, "counting_nvrtc"); }

fs::path new_folder() {
  static int number = 0;
  const fs::path folder = root().path / std::to_string(number++);
  fs::create_directory(folder);
  return folder;
}

Program probe(const std::string& word) {
  return {"types.cuh", "probe",
          "// " + word +
              "\nextern \"C\" __global__ void probe(int* p, int n) { if (threadIdx.x < n) p[threadIdx.x] = n; }\n"};
}

int start_role(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  std::vector<std::string> all{"jit"};
  all.insert(all.end(), words.begin(), words.end());
  for (std::string& w : all) arguments.push_back(w.data());
  arguments.push_back(nullptr);
  pid_t process = 0;
  return posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) == 0 ? process : -1;
}

int finish(int process) {
  int status = 0;
  waitpid(process, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace upconv::jit::testing

int main(int argc, char** argv) {
  using namespace upconv::jit::testing;
  if (argc > 2 && argv[1][0] != '-') return role({argv + 1, argv + argc});
  testing::InitGoogleTest(&argc, argv);
  if (const char* nvrtc = std::getenv("UPCONV_TEST_NVRTC"); nvrtc && access(nvrtc, R_OK) == 0)
    setenv("UPCONV_NVRTC", UPCONV_COUNTING_NVRTC, 1);
  if (!has_driver()) setenv("UPCONV_CUDA_DRIVER", UPCONV_FAKE_DRIVER, 1);
  setenv("UPCONV_CACHE_DIR", (root().path / "user").c_str(), 1);
  return RUN_ALL_TESTS();
}
