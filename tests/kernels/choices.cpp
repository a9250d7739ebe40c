// Which candidate runs each pass of the named shapes on a model of a GPU, and how: one line each, kept under
// tests/golden so that a change of choice is seen and meant. tools/golden_plans.sh writes the files anew.
//   plan_choices ARCHITECTURE            prints the lines
//   plan_choices ARCHITECTURE FILE       compares them with a file: 1, and the lines that differ, when they do
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "kernels/variants.hpp"
#include "plan/cuda_choice.hpp"

namespace upconv::test {
namespace {

constexpr std::string_view shown[] = {"tf32", "ieee", "bf16", "tf32 channels_last", "bf16 channels_last"};

std::vector<std::string> lines(int architecture) {
  std::vector<std::string> all;
  for (const char* file : {"kernelbench-l1.txt", "models.txt", "large.txt"})
    for (const Row& row : read_shapes(file))
      for (const Variant& v : variants) {
        if (std::find(std::begin(shown), std::end(shown), v.name) == std::end(shown)) continue;
        if (v.channels_last && row.problem.rank == 1) continue;
        const auto plan = Plan::create(apply(v, row.problem), Device::cuda_model(architecture));
        for (Pass pass : all_passes) {
          const std::string what = row.id + " " + v.name + " " + std::string(to_string(pass)) + ": ";
          if (!plan.ok()) {
            all.push_back(what + plan.status().message());
            continue;
          }
          const CudaChoice choice = cuda_choice(**plan, pass);
          all.push_back(what + choice.candidate + ", " + choice.detail);
        }
      }
  return all;
}

int compare(const std::vector<std::string>& now, const char* file) {
  std::ifstream in(file);
  std::vector<std::string> kept;
  for (std::string line; std::getline(in, line);) kept.push_back(line);
  const auto name = [](const std::string& line) { return line.substr(0, line.find(": ")); };
  int differ = 0;
  const auto report = [&](const char* sign, const std::string& line) {
    if (++differ <= 40) std::printf("%s %s\n", sign, line.c_str());
  };
  for (const std::string& line : kept) {
    const auto same = std::find_if(now.begin(), now.end(), [&](const auto& l) { return name(l) == name(line); });
    if (same != now.end() && *same == line) continue;
    report("-", line);
    if (same != now.end()) report("+", *same);
  }
  for (const std::string& line : now)
    if (std::none_of(kept.begin(), kept.end(), [&](const auto& l) { return name(l) == name(line); })) report("+", line);
  if (differ == 0) return 0;
  std::printf("%d lines differ from %s; when that is meant, write it anew with tools/golden_plans.sh\n", differ, file);
  return 1;
}

}  // namespace
}  // namespace upconv::test

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: plan_choices ARCHITECTURE [FILE]\n");
    return 2;
  }
  const auto now = upconv::test::lines(std::atoi(argv[1]));
  if (argc == 3) return upconv::test::compare(now, argv[2]);
  for (const std::string& line : now) std::printf("%s\n", line.c_str());
  return 0;
}
