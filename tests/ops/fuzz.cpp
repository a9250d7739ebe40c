// The fuzzer: random whole problems through every candidate, bounded by time. One line repeats a failure.
// Run it alone after changing a kernel: build/tests/fuzz --candidate NAME --seconds 60
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/isa.hpp"
#include "ops/generate.hpp"
#include "ops/trial.hpp"

namespace {

using namespace upconv;
using namespace upconv::test;

constexpr const char* usage = R"(usage: fuzz [options]
  --seconds S       stop after S seconds (default 10)
  --seed N          first seed (default 1); case i uses seed N + i
  --problem "..."   this problem only, once, with the data and setting of --seed
  --candidate NAME  only this candidate, else all of them and the plan's own choice
  --isa NAME        base, v3 or v4: this instruction set (exit 77 without it)
  --budget N        most products of a problem (default 300000)
  --cases N         stop after N cases
  --no-shrink       report the failing problem as drawn
  --crash           with --problem: find the smallest problem that crashes or fails, each tried in a process of its own
)";

struct Options {
  double seconds = 10.0, budget = 300000;
  unsigned long long seed = 1, cases = ~0ull;
  std::string problem, candidate;
  const char* isa = nullptr;
  bool shrink = true, crash = false;
};

bool read_options(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--no-shrink") {
      o.shrink = false;
      continue;
    }
    if (key == "--crash") {
      o.crash = true;
      continue;
    }
    if (++i == argc) return false;
    const char* value = argv[i];
    if (key == "--seconds")
      o.seconds = std::atof(value);
    else if (key == "--seed")
      o.seed = std::strtoull(value, nullptr, 0);
    else if (key == "--problem")
      o.problem = value;
    else if (key == "--candidate")
      o.candidate = value;
    else if (key == "--isa")
      setenv("UPCONV_ISA", o.isa = value, 1);
    else if (key == "--budget")
      o.budget = std::atof(value);
    else if (key == "--cases")
      o.cases = std::strtoull(value, nullptr, 0);
    else
      return false;
  }
  return true;
}

std::string repeat_line(const Options& o, unsigned long long seed, const Problem& p) {
  std::string s =
      "fuzz --seed " + std::to_string(seed) + " --problem \"" + to_string(p) + "\" --isa " + to_string(active_isa());
  if (!o.candidate.empty()) s += " --candidate " + o.candidate;
  return s;
}

/// The failure, or "".
std::string try_problem(const Options& o, unsigned long long seed, const Problem& p, std::int64_t* ran = nullptr) {
  static std::string last_words;  // stays alive for the crash handler
  last_words = "while running\n  " + repeat_line(o, seed, p) + "\n  (add --crash to find a smaller one)\n";
  on_crash_print(last_words.c_str());
  return Trial(p, random_setting(seed)).run_all(o.candidate, ran);
}

/// Whether the problem makes a process of its own fail; its output is dropped.
bool fails_apart(const Options& o, const Problem& p) {
  const std::string text = to_string(p), seed = std::to_string(o.seed);
  const pid_t child = fork();
  if (child == 0) {
    std::vector<const char*> words = {"fuzz", "--no-shrink", "--seed", seed.c_str(), "--problem", text.c_str()};
    if (!o.candidate.empty()) words.insert(words.end(), {"--candidate", o.candidate.c_str()});
    words.push_back(nullptr);
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    execv("/proc/self/exe", const_cast<char* const*>(words.data()));
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0;
}

int report(const Options& o, unsigned long long seed, Problem p, std::string failure) {
  std::printf("FAILED: %s\n  repeat: %s\n", failure.c_str(), repeat_line(o, seed, p).c_str());
  std::fflush(stdout);
  if (!o.shrink) return 1;
  const Problem least = shrink(p, [&](const Problem& q) { return !try_problem(o, seed, q).empty(); });
  if (!(least == p))
    std::printf("SMALLEST: %s\n  repeat: %s\n", try_problem(o, seed, least).c_str(),
                repeat_line(o, seed, least).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!read_options(argc, argv, o)) {
    std::fputs(usage, stderr);
    return 2;
  }
  if (o.isa && to_string(active_isa()) != o.isa) {
    std::printf("this machine has no %s; it runs %s\n", o.isa, to_string(active_isa()).c_str());
    return 77;  // ctest: skipped
  }
  if (!o.candidate.empty()) {
    bool known = false;
    std::string names;
    for (const std::string& name : candidate_names()) known |= name == o.candidate, names += " " + name;
    if (!known) {
      std::fprintf(stderr, "fuzz: no candidate '%s'; there are:%s\n", o.candidate.c_str(), names.c_str());
      return 2;
    }
  }
  if (!o.problem.empty()) {
    const auto p = parse_problem(o.problem);
    const Status status = p.ok() ? validate(*p) : p.status();
    if (!status.ok()) {
      std::fprintf(stderr, "fuzz: %s\n", status.message().c_str());
      return 2;
    }
    if (o.crash) {
      const Problem least = shrink(*p, [&](const Problem& q) { return fails_apart(o, q); });
      std::printf("SMALLEST\n  repeat: %s\n", repeat_line(o, o.seed, least).c_str());
      return 1;
    }
    std::int64_t ran = 0;
    const std::string failure = try_problem(o, o.seed, *p, &ran);
    if (!failure.empty()) return report(o, o.seed, *p, failure);
    std::printf("passed: %lld runs of \"%s\"\n", static_cast<long long>(ran), to_string(*p).c_str());
    return 0;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  unsigned long long done = 0;
  std::int64_t ran = 0;
  for (; done < o.cases && elapsed() < o.seconds; ++done) {
    Random random(o.seed + done);
    const double budget = o.budget * (random.one_in(10) ? 1.0 : random.one_in(2) ? 0.1 : 0.01);
    const Problem p = random_problem(random, budget);
    const std::string failure = try_problem(o, o.seed + done, p, &ran);
    if (!failure.empty()) return report(o, o.seed + done, p, failure);
  }
  std::printf("passed: %llu problems, %lld runs, isa %s, %.1f s\n", done, static_cast<long long>(ran),
              to_string(active_isa()).c_str(), elapsed());
  return 0;
}
