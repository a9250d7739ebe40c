// The CUDA kernels on the CPU: problems from a table or from a seed, every candidate forced in turn for every pass that
// it takes, judged against the fp64 oracle. A failure prints the line that repeats it. See docs/adding-a-kernel.md.
#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "cuda/candidates.hpp"
#include "emulator/cuda_trial.hpp"
#include "emulator/draw.hpp"
#include "ops/generate.hpp"
#include "plan/choose.hpp"
#include "plan/way.hpp"
#include "problem/residues_as_channels.hpp"

namespace {

using namespace upconv;
using namespace upconv::test;

constexpr const char* usage = R"(usage: emulate [options]
  --table FILE       the problems of FILE (see tests/emulator/problems.txt)
  --part I/N         every N-th of them, from the I-th on (from 0)
  --problem "..."    this problem
  --seconds S        random problems for S seconds
  --seed N           of data, of the order in which threads run, and of the first random problem (default 1)
  --epilogue N       the activations that N draws (default 0: none)
  --operands         operand tensors of every spread are added to y
  --not-finite       one element of x and one of dy is inf: it must reach what uses it, and nothing else
  --candidate NAME   only this one; cuda_tiles:3 is its third tile after the one that the cost model prefers,
                     cuda_tiles+residues the same kernel with the residues of the stride as channels
  --pass NAME        only forward, backward_input, backward_weight or backward_bias
  --device NAME      sm_90 (default) or sm_80
  --processors N     multiprocessors of the device (default: those of an H200 or an A100; random runs draw it)
  --budget N         most products of a random problem (default 400000)
  --sizes N          problems of one specialisation (default 4; with --problem 1, it alone)
  --shrink           look for a smaller problem that fails alike
  --go-on            count failures instead of stopping at the first
  --verbose          a line for every run
)";

struct Options {
  std::string table, problem, candidate, pass, device = "sm_90", processors;
  int part = 0, parts = 1, sizes = 0;  ///< sizes: 0, unless given
  double seconds = 0.0, budget = 400000;
  unsigned long long seed = 1, epilogue = 0;
  bool shrink = false, go_on = false, verbose = false, operands = false, not_finite = false;
};

bool read_options(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const std::map<std::string, bool*> flags = {{"--shrink", &o.shrink},
                                                {"--go-on", &o.go_on},
                                                {"--verbose", &o.verbose},
                                                {"--operands", &o.operands},
                                                {"--not-finite", &o.not_finite}};
    if (const auto flag = flags.find(key); flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    if (++i == argc) return false;
    const std::string value = argv[i];
    if (key == "--table")
      o.table = value;
    else if (key == "--part") {
      if (std::sscanf(value.c_str(), "%d/%d", &o.part, &o.parts) != 2 || o.parts < 1) return false;
    } else if (key == "--problem")
      o.problem = value;
    else if (key == "--seconds")
      o.seconds = std::atof(value.c_str());
    else if (key == "--seed")
      o.seed = std::strtoull(value.c_str(), nullptr, 0);
    else if (key == "--epilogue")
      o.epilogue = std::strtoull(value.c_str(), nullptr, 0);
    else if (key == "--candidate")
      o.candidate = value;
    else if (key == "--pass")
      o.pass = value;
    else if (key == "--device")
      o.device = value;
    else if (key == "--processors")
      o.processors = value;
    else if (key == "--budget")
      o.budget = std::atof(value.c_str());
    else if (key == "--sizes")
      o.sizes = std::atoi(value.c_str());
    else
      return false;
  }
  return o.table.empty() + o.problem.empty() + (o.seconds <= 0.0) == 2;
}

/// One problem under one setting, and what of it to run.
struct Case {
  Problem problem;
  unsigned long long seed = 1, epilogue = 0;
  std::string candidate, pass;  ///< Empty: all. "cuda_tiles:3": a family's third tile after the best.
  bool variants = false;        ///< Draw one such tile as well.
  bool operands = false, not_finite = false;
};

std::string repeat_line(const Options& o, const Case& c) {
  std::string s = "emulate --seed " + std::to_string(c.seed);
  if (c.epilogue) s += " --epilogue " + std::to_string(c.epilogue);
  if (c.operands) s += " --operands";
  if (c.not_finite) s += " --not-finite";
  if (!c.candidate.empty()) s += " --candidate " + c.candidate;
  if (!c.pass.empty()) s += " --pass " + c.pass;
  if (o.device != "sm_90") s += " --device " + o.device;
  if (!o.processors.empty()) s += " --processors " + o.processors;
  return s + " --problem \"" + to_string(c.problem) + "\"";
}

Epilogue epilogue_of(unsigned long long number) {
  if (number == 0) return {};
  for (Random r(number);;)
    if (Epilogue e = draw_epilogue(r); !e.empty()) return e;
}

/// Says in which order the emulated device runs its threads.
void set_order(unsigned long long seed) {
  static const auto set = [] {
    void* library = dlopen(UPCONV_EMULATOR, RTLD_NOW | RTLD_LOCAL);
    return library ? reinterpret_cast<void (*)(unsigned long long)>(dlsym(library, "emu_set_seed")) : nullptr;
  }();
  if (!set) {
    std::fprintf(stderr, "emulate: %s\n", dlerror());
    std::exit(2);
  }
  set(seed);
}

struct Counts {
  long long runs = 0, failures = 0, problems = 0;
  std::map<std::string, long long> by;  ///< Runs by candidate and pass.
};

/// The ways that a case asks for: of families with several tiles also one that the cost model would not take, and of
/// all the problem that has residues as channels where there is one.
std::vector<std::string> names_for(const Case& c, Pass pass) {
  const auto asked = parse_way(c.candidate);
  if (!asked) return {c.candidate};  // the plan says what is wrong with it
  std::vector<std::string> names;
  for (const auto& candidate : cuda::candidates(pass)) {
    if (!asked->candidate.empty() && candidate.name != asked->candidate) continue;
    if (asked->residues || asked->variant > 0) {
      names.push_back(c.candidate);
      continue;
    }
    Way way{std::string(candidate.name)};
    for (const bool residues : {false, true}) {
      if (residues && (!asked->candidate.empty() || !residues_as_channels(c.problem))) continue;
      way.residues = residues, way.variant = 0;
      names.push_back(way.name());
      if (!c.variants || candidate.variants == 1) continue;
      Random random(c.seed + residues);
      way.variant = static_cast<int>(random.between(1, random.one_in(2) ? 3 : candidate.variants - 1));
      names.push_back(way.name());
    }
  }
  return names;
}

/// What fails, with the one candidate and pass that do; empty when nothing does.
std::vector<std::pair<Case, std::string>> failures_of(const Options& o, const Case& c, Counts& counts) {
  std::vector<std::pair<Case, std::string>> failures;
  static std::string last_words;  // stays alive for the crash handler
  last_words = "while running\n  " + repeat_line(o, c) + "\n";
  on_crash_print(last_words.c_str());
  set_order(c.seed);
  CudaTrial trial(c.problem, {c.seed, epilogue_of(c.epilogue), c.operands, c.not_finite});
  for (const Pass pass : passes) {
    if (!c.pass.empty() && to_string(pass) != c.pass) continue;
    for (const std::string& name : names_for(c, pass)) {
      Case one = c;
      one.candidate = name;
      one.pass = to_string(pass);
      last_words = "while running\n  " + repeat_line(o, one) + "\n";
      on_crash_print(last_words.c_str());
      const auto begin = std::chrono::steady_clock::now();
      const CudaOutcome outcome = trial.run(name, pass);
      if (o.verbose)
        std::printf("%s %.2f s: %s\n", outcome.ran ? outcome.message.empty() ? "good" : "BAD" : "declined",
                    std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
                    repeat_line(o, one).c_str());
      if (!outcome.ran) continue;
      ++counts.runs;
      ++counts.by[name.substr(0, name.find(':')) + " " + one.pass];
      if (!outcome.message.empty()) failures.emplace_back(one, outcome.message);
    }
  }
  ++counts.problems;
  return failures;
}

/// False: something failed.
bool check(const Options& o, const Case& c, Counts& counts) {
  const auto failures = failures_of(o, c, counts);
  for (const auto& [one, message] : failures) {
    ++counts.failures;
    std::printf("FAILED: %s of \"%s\" by %s: %s\n  repeat: %s\n", one.pass.c_str(), to_string(one.problem).c_str(),
                one.candidate.c_str(), message.c_str(), repeat_line(o, one).c_str());
    std::fflush(stdout);
    if (o.shrink) {
      Counts ignored;
      const Problem least = shrink(one.problem, [&, &one = one](const Problem& q) {
        Case smaller = one;
        smaller.problem = q;
        return !failures_of(o, smaller, ignored).empty();
      });
      Case smaller = one;
      smaller.problem = least;
      std::printf("  smallest: %s\n", repeat_line(o, smaller).c_str());
      std::fflush(stdout);
    }
  }
  return failures.empty();
}

/// "NAME PASSES PROBLEM": a candidate or "*", letters of f i w b or "*", a problem; "@N" at the end draws activations,
/// "+" adds operand tensors, "!" makes one element of x and dy inf.
std::vector<Case> read_table(const Options& o) {
  std::ifstream file(o.table);
  if (!file) {
    std::fprintf(stderr, "emulate: cannot read %s\n", o.table.c_str());
    std::exit(2);
  }
  std::vector<Case> cases;
  std::string line;
  int number = 0, kept = 0;
  while (std::getline(file, line)) {
    ++number;
    std::istringstream words(line.substr(0, line.find('#')));
    std::string name, letters, text, word;
    if (!(words >> name >> letters)) continue;
    if (kept++ % o.parts != o.part) continue;
    Case c;
    while (words >> word) {
      if (word == "+")
        c.operands = true;
      else if (word == "!")
        c.not_finite = true;
      else if (word[0] == '@')
        c.epilogue = std::strtoull(word.c_str() + 1, nullptr, 10);
      else
        text += (text.empty() ? "" : " ") + word;
    }
    const auto p = parse_problem(text);
    const Status status = p.ok() ? validate(*p) : p.status();
    if (!status.ok()) {
      std::fprintf(stderr, "emulate: %s:%d: %s\n", o.table.c_str(), number, status.message().c_str());
      std::exit(2);
    }
    c.problem = *p;
    c.candidate = name == "*" ? "" : name;
    for (const Pass pass : passes) {
      const char letter = "fiwb"[index_of(pass)];
      if (letters != "*" && letters.find(letter) == std::string::npos) continue;
      c.pass = to_string(pass);
      c.seed = static_cast<unsigned long long>(number) * 2 + 1;  // integers, which must be exact
      cases.push_back(c);
      ++c.seed;  // fractions, within the bound
      cases.push_back(c);
    }
  }
  return cases;
}

void report(const Counts& counts, double seconds) {
  std::printf("%lld problems, %lld runs, %lld failed, %.1f s\n", counts.problems, counts.runs, counts.failures,
              seconds);
  for (const auto& [name, count] : counts.by) std::printf("  %-40s %lld\n", name.c_str(), count);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!read_options(argc, argv, o)) {
    std::fputs(usage, stderr);
    return 2;
  }
  // Of random runs two in three have few multiprocessors, so that blocks take several tiles each.
  if (o.seconds > 0.0 && o.processors.empty() && o.seed % 3 != 0) o.processors = o.seed % 3 == 1 ? "3" : "20";
  setenv("UPCONV_NVRTC", UPCONV_EMULATOR, 1);
  setenv("UPCONV_CUDA_DRIVER", UPCONV_EMULATOR, 1);
  setenv("UPCONV_CACHE_DIR", "", 0);  // kernels are kept by this process alone unless the caller says where
  setenv("UPCONV_QUIET", "1", 1);
  setenv("UPCONV_EMULATOR_DEVICE", o.device.c_str(), 1);
  if (!o.processors.empty()) setenv("UPCONV_EMULATOR_PROCESSORS", o.processors.c_str(), 1);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  Counts counts;
  if (!o.problem.empty()) {
    const auto p = parse_problem(o.problem);
    const Status status = p.ok() ? validate(*p) : p.status();
    if (!status.ok()) {
      std::fprintf(stderr, "emulate: %s\n", status.message().c_str());
      return 2;
    }
    std::vector<Problem> problems = {*p};
    Random random(o.seed);
    for (const Problem& q : draw_sizes(random, *p, o.sizes - 1, o.budget)) problems.push_back(q);
    for (const Problem& q : problems)
      if (!check(o, {q, o.seed, o.epilogue, o.candidate, o.pass, false, o.operands, o.not_finite}, counts) && !o.go_on)
        break;
    if (counts.runs == 0) {
      std::fprintf(stderr, "emulate: no candidate took it\n");
      return 1;
    }
  } else if (!o.table.empty()) {
    std::set<std::string> idle;
    for (Case c : read_table(o)) {
      c.operands |= o.operands;
      c.not_finite |= o.not_finite;
      if (!o.candidate.empty()) {
        if (!c.candidate.empty() && c.candidate != o.candidate.substr(0, o.candidate.find(':'))) continue;
        c.candidate = o.candidate;
      }
      if (!o.pass.empty() && c.pass != o.pass) continue;
      const long long before = counts.runs;
      const bool good = check(o, c, counts);
      if (counts.runs == before) {  // the line says that it runs
        ++counts.failures;
        std::printf("FAILED: %s declined \"%s\"\n", c.candidate.c_str(), repeat_line(o, c).c_str());
      }
      if (!good && !o.go_on) break;
    }
  } else {
    for (unsigned long long seed = o.seed; elapsed() < o.seconds; ++seed) {
      Random random(seed);
      const unsigned long long epilogue =
          random.one_in(6) ? static_cast<unsigned long long>(random.between(1, 1000)) : 0;
      const double budget = o.budget * random.pick({1.0, 0.3, 0.1});
      bool good = true;
      unsigned long long data = seed * 8;
      for (const Problem& p : draw_cuda_problems(random, o.sizes > 0 ? o.sizes : 4, budget)) {
        if (elapsed() > o.seconds) break;
        good &= check(o, {p, data++, epilogue, o.candidate, o.pass, true}, counts);
        if (!good) break;  // its other sizes fail alike
      }
      if (!good && !o.go_on) break;
    }
  }
  report(counts, elapsed());
  return counts.failures ? 1 : 0;
}
