// Compiles CUDA kernels as a plan for a GPU would, without one: of every family, pass, dtype, precision and rank that
// the named shapes lead to, the kernel with the most taps (two: and the fewest). Fails when one does not compile, takes
// longer than a first call may wait, keeps registers in memory, may touch global memory before the kernel before it has
// ended (beginning.hpp), or where the assembler says that it lost the overlap that the kernel is written for (wgmma
// products that wait for one another). Kernels already in the cache are not compiled again, only judged.
//   kernels_compile ARCHITECTURE [--each N] [--chains]
//     ARCHITECTURE: 80, 90, 100 or 120; N: kernels a group, default 1; --chains: those of the level-2 chains alone
// UPCONV_VERBOSE=1 prints every kernel, not only what is wrong.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "jit/cubin.hpp"
#include "jit/image.hpp"
#include "jit/notice.hpp"
#include "kernels/beginning.hpp"
#include "kernels/chain_row.hpp"
#include "kernels/variants.hpp"
#include "plan/cuda_chain.hpp"
#include "plan/cuda_choice.hpp"

namespace upconv::test {
namespace {

/// Processor seconds of one core of a current server: what a first call may wait for. Cores of CI are about half as
/// fast and share their caches with whatever else runs (one kernel has taken 3.8 and 7.0 s of processor time on the
/// same machine), so only four times that is an error; what is over the limit itself is counted and printed.
constexpr double longest_compile = 3.0, slow_machine = 4.0;

/// Files whose kernels may keep a few bytes a thread in local memory, and why.
struct Exception {
  const char* file;
  int bytes;
  const char* reason;
};
constexpr Exception may_use_local_memory[] = {
    {"direct.cuh", 32, "the last candidate: its tile of sums is sized for fp32 and kept for fp64"},
    {"gather_mma.cuh", 352,
     "up to 96 with both parts of split operands beside the sums, and the measured times include it; more on sm_100 "
     "alone and on sm_80 where the epilogue of 128 columns reads operands: nothing of that has been measured"},
    {"boxes.cuh", 168,
     "three multiplying warpgroups have 152 registers a thread: 8 bytes over that for one input gradient (L1/65), up "
     "to "
     "96 in 16 bits with 105 taps (L1/58), the rest where an epilogue reads operands; the measured times include it, "
     "and two warpgroups with 224 registers and no local memory were slower on the level-1 shapes"},
    {"columns.cuh", 48,
     "16 bits with an epilogue of several steps (L2/11), or one wide tile (L1/74): not looked into, and the measured "
     "times of the second include it"},
    {"closing/pull_rows.cuh", 16, "fp64 only, where sums of rows take two registers each"},
    {"positions.cuh", 8, "sm_100 alone, where nothing has been measured"},
    {"scatter.cuh", 32, "sm_100 and sm_120 alone, where nothing has been measured"},
    {"weight_mma.cuh", 320,
     "up to 96 on sm_90a, where sums take 128 to 144 of 255 registers and the measured times include it; on sm_80 the "
     "window of dy at a stride of 10, where nothing has been measured"},
    {"weight_wgmma.cuh", 48,
     "what 72 registers of a thread that copies do not hold, at the ends of boxes; up to 24 bytes on the level-1 "
     "shapes, and "
     "the measured times include it"},
    {"closing/columns.cuh", 8, "sm_80 alone, where a minimum of what an epilogue would give is looked for in training"},
    {"closing/parts.cuh", 8, "where a relu comes first (L2/61), ptxas stops at 40 registers of its own accord"},
    {"ordered_sum.cuh", 8, "fp64 only, where ptxas stops at 40 registers of its own accord"},
};

struct Item {
  jit::Program program;
  std::string architecture, shape;  ///< The first shape that asks for it.
  std::int64_t taps = 0;
};

/// Where nothing can be measured yet, the variants that differ most stand for all: the time of a test run is finite.
bool stands_for_others(const Variant& v) {
  const std::string name = v.name;
  return name == "tf32" || name == "ieee" || name == "bf16" || name == "f64" || name == "tf32 channels_last";
}

/// Every kernel of every plan, by what it is a case of.
std::map<std::string, std::vector<Item>> kernels_by_group(int architecture) {
  std::map<std::string, std::vector<Item>> groups;
  std::set<std::string> seen;
  for (const char* file : {"kernelbench-l1.txt", "models.txt", "large.txt"})
    for (const Row& row : read_shapes(file))
      for (const Variant& v : variants) {
        const Problem p = apply(v, row.problem);
        if (v.channels_last && p.rank == 1) continue;
        if (architecture != 90 && !stands_for_others(v)) continue;
        const auto plan = Plan::create(p, Device::cuda_model(architecture), epilogue_of(v));
        if (!plan.ok()) {
          std::printf("%s: %s\n", row.id.c_str(), plan.status().message().c_str());
          std::exit(1);
        }
        for (Pass pass : all_passes) {
          if (v.epilogue != Variant::plain && pass != Pass::forward) continue;
          const CudaChoice choice = cuda_choice(**plan, pass);
          for (const jit::Kernel* k : choice.kernels) {
            const jit::Program& program = k->program();
            if (!seen.insert(program.file + '\0' + program.entry + '\0' + program.preamble).second) continue;
            const std::string group = choice.candidate + " " + program.entry + ", " + std::string(to_string(pass)) +
                                      " " + v.name + " " + std::to_string(p.rank) + "d";
            groups[group].push_back(
                {program, choice.architecture, row.id + " " + v.name, p.kernel[0] * p.kernel[1] * p.kernel[2]});
          }
        }
      }
  return groups;
}

/// The kernels of the level-2 chains (tests/shapes/chains.txt): each in fp32 and bf16; of the other dtypes, and where
/// nothing can be measured yet, one of a kind. `layers`: the convolutions of all, not only those that read operands.
void add_chains(int architecture, bool layers, std::map<std::string, std::vector<Item>>& groups) {
  std::set<std::string> seen;
  std::ifstream file(std::string(UPCONV_SHAPES) + "/chains.txt");
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const ChainRow row = parse_chain(line);
    for (const Variant& v : variants) {
      const std::string name = v.name;
      if (v.epilogue != Variant::plain || v.channels_last || name == "bf16x3" || name == "ieee") continue;
      const bool all = architecture < 100 && (name == "tf32" || name == "bf16");
      const Problem p = apply(v, row.problem);
      Chain chain = row.chain;
      note_spreads(p, chain, row.operands.data(), static_cast<int>(row.operands.size()));
      const auto plan = ChainPlan::create(p, Device::cuda_model(architecture), chain);
      const auto layer = Plan::create(p, Device::cuda_model(architecture), epilogue_of_layer(chain));
      if (!plan.ok() || !layer.ok()) {
        std::printf("%s: %s\n", row.id.c_str(), (plan.ok() ? layer.status() : plan.status()).message().c_str());
        std::exit(1);
      }
      auto kernels = cuda_chain_kernels(**plan);
      const CudaChoice choice = cuda_choice(**layer, Pass::forward);
      if (layers || epilogue_of_layer(chain).operands() > 0)
        kernels.insert(kernels.end(), choice.kernels.begin(), choice.kernels.end());
      for (const jit::Kernel* k : kernels) {
        const jit::Program& program = k->program();
        if (!seen.insert(program.file + '\0' + program.preamble).second) continue;
        const std::string group = "chain " + program.entry + ", " + name + (all ? " " + row.id : "");
        groups[group].push_back(
            {program, choice.architecture, row.id + " " + name, static_cast<std::int64_t>(program.preamble.size())});
      }
      std::vector<Shape5> sizes;
      for (const OperandTensor& o : row.operands) sizes.push_back(o.size);
      const auto training = TrainingChain::create(p, Device::cuda_model(architecture), chain, sizes, 0xffff);
      if (!training.ok()) {
        std::printf("%s: %s\n", row.id.c_str(), training.status().message().c_str());
        std::exit(1);
      }
      for (const jit::Kernel* k : cuda_chain_kernels(**training)) {
        const jit::Program& program = k->program();
        if (!seen.insert(program.file + '\0' + program.preamble).second) continue;
        const std::string group =
            "training " + program.entry + ", " + name + (all && name == "tf32" ? " " + row.id : "");
        groups[group].push_back(
            {program, choice.architecture, row.id + " " + name, static_cast<std::int64_t>(program.preamble.size())});
      }
    }
  }
}

struct Judge {
  std::mutex mutex;
  int failures = 0;
  double seconds = 0.0, longest = 0.0;
  int compiled = 0, slow = 0;

  /// One kernel's verdict; prints what is wrong with it.
  void operator()(const std::string& group, const Item& item, const Result<jit::Built>& built) {
    std::string wrong;
    int registers = 0;
    if (!built.ok()) {
      wrong = built.status().message();
    } else if (built->image.ptx) {
      wrong = "this NVRTC is too old for " + item.architecture;
    } else if (const auto r = jit::resources_of(built->image.code, item.program.entry); !r.ok()) {
      wrong = r.status().message();
    } else {
      registers = r->registers;
      if (r->local_bytes > allowed_bytes(item.program))
        wrong = std::to_string(r->local_bytes) + " bytes of local memory a thread";
      if (!item.architecture.starts_with("sm_8")) {
        const bool tables = built->image.code.find(".nv.constant4") != std::string::npos;  // addresses of arrays
        const auto code = jit::code_of(built->image.code, item.program.entry);
        if (const char* beginning = wrong_beginning(code, tables))
          wrong += (wrong.empty() ? "" : "; ") + std::string(beginning);
      }
      // C7510 to C7519: wgmma products in series, or fences and waits that the assembler had to add; C7508: setmaxnreg
      // without effect.
      if (built->image.notes.find("(C75") != std::string::npos)
        wrong += (wrong.empty() ? "" : "; ") + built->image.notes;
      if (built->image.seconds > slow_machine * longest_compile) {
        char took[64];
        std::snprintf(took, sizeof took, "compiles for %.1f s, and may for %.1f", built->image.seconds,
                      longest_compile);
        wrong += (wrong.empty() ? "" : "; ") + std::string(took);
      }
    }
    const std::lock_guard lock(mutex);
    if (built.ok()) {
      compiled += built->compiled;
      seconds += built->image.seconds;
      longest = std::max(longest, built->image.seconds);
      slow += built->image.seconds > longest_compile;
    }
    if (wrong.empty() && !std::getenv("UPCONV_VERBOSE")) return;
    if (!wrong.empty()) ++failures;
    std::printf("%s: %s, %s: %d registers, %.2f s%s%s\n", wrong.empty() ? "ok" : "WRONG", group.c_str(),
                item.shape.c_str(), registers, built.ok() ? built->image.seconds : 0.0, wrong.empty() ? "" : ": ",
                wrong.c_str());
  }

  static int allowed_bytes(const jit::Program& p) {
    for (const Exception& e : may_use_local_memory)
      if (p.file == e.file) return e.bytes;
    return 0;
  }
};

int run(int architecture, int each, bool chains_only) {
  if (const auto& n = jit::nvrtc(); !n.ok()) {
    std::printf("skipped: %s\n", n.status().message().c_str());
    return 77;
  }
  auto groups = chains_only ? std::map<std::string, std::vector<Item>>{} : kernels_by_group(architecture);
  add_chains(architecture, chains_only, groups);
  std::vector<std::pair<std::string, Item>> work;
  std::size_t all = 0;
  for (auto& [group, items] : groups) {
    all += items.size();
    std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.taps > b.taps; });
    const auto count = std::min<std::size_t>(items.size(), static_cast<std::size_t>(each));
    for (std::size_t i = 0; i < count; ++i)  // the most, the fewest, then what lies between
      work.emplace_back(group, i == 1 ? items.back() : items[i == 0 ? 0 : i - 1]);
  }
  Judge judge;
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i)
    threads.emplace_back([&] {
      const jit::Quiet quiet;
      for (std::size_t j; (j = next++) < work.size();)
        judge(work[j].first, work[j].second, jit::build(work[j].second.program, work[j].second.architecture));
    });
  for (std::thread& t : threads) t.join();
  std::printf(
      "%d of %zu kernels (%zu in all, in %zu groups) compiled now; %.0f s of one core, the longest %.2f s, %d over "
      "%.0f s; "
      "%d wrong\n",
      judge.compiled, work.size(), all, groups.size(), judge.seconds, judge.longest, judge.slow, longest_compile,
      judge.failures);
  return judge.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace upconv::test

int main(int argc, char** argv) {
  int each = 1;
  bool chains_only = false, understood = argc >= 2;
  for (int i = 2; i < argc; ++i) {
    if (std::string(argv[i]) == "--chains")
      chains_only = true;
    else if (std::string(argv[i]) == "--each" && i + 1 < argc)
      each = std::atoi(argv[++i]);
    else
      understood = false;
  }
  if (!understood) {
    std::fprintf(stderr, "usage: kernels_compile ARCHITECTURE [--each N] [--chains]\n");
    return 2;
  }
  return upconv::test::run(std::atoi(argv[1]), each, chains_only);
}
