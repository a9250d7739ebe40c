// Runs one transposed convolution from a C++ program, with no framework around it:
// describe the problem, make a plan once, hand it memory, run it on two threads.
//
//   embed ["2d n1 c16 o8 i32x48 k4 s2 p1 b"]
#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "upconv/plan.hpp"
#include "upconv/version.hpp"

namespace {

std::size_t elements(std::int64_t leading, const upconv::Extent& spatial, int rank) {
  for (int d = 0; d < rank; ++d) leading *= spatial[d];
  return static_cast<std::size_t>(leading);
}

int fail(const upconv::Status& status) {
  std::fprintf(stderr, "embed: %s\n", status.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  // 1. The problem. A string is handy here; a program would rather fill in the members of upconv::Problem.
  auto parsed = upconv::parse_problem(argc > 1 ? argv[1] : "2d n1 c16 o8 i32x48 k4 s2 p1 b");
  if (!parsed.ok()) return fail(parsed.status());
  const upconv::Problem& problem = *parsed;
  if (problem.dtype != upconv::DType::f32) {
    std::fprintf(stderr, "embed: this example fills its tensors with float, so it takes f32 only\n");
    return 1;
  }

  // 2. The plan: everything is decided here, once. It is immutable; any number of threads may run it.
  auto created = upconv::Plan::create(problem);
  if (!created.ok()) return fail(created.status());
  const upconv::Plan& plan = **created;

  // 3. The tensors, dense and in PyTorch's layouts. Ones and halves, so that the result is easy to check by hand.
  const upconv::Extent out = upconv::output_size(problem);
  std::vector<float> x(elements(problem.batch * problem.in_channels, problem.input, problem.rank), 1.0f);
  std::vector<float> w(
      elements(problem.in_channels * (problem.out_channels / problem.groups), problem.kernel, problem.rank), 0.5f);
  std::vector<float> b(static_cast<std::size_t>(problem.out_channels), 0.25f);
  std::vector<float> y(elements(problem.batch * problem.out_channels, out, problem.rank));

  // 4. Threads and scratch memory are the caller's too: ask how much, give it aligned to 64 bytes.
  const std::unique_ptr<upconv::Executor> threads = upconv::make_thread_pool(2);
  const std::size_t bytes = plan.workspace_bytes(upconv::Pass::forward, threads->workers());
  const auto release = [](std::byte* p) { ::operator delete[](p, std::align_val_t{64}); };
  const std::unique_ptr<std::byte[], decltype(release)> workspace(new (std::align_val_t{64}) std::byte[bytes], release);

  // 5. Run.
  const upconv::Status status =
      plan.forward({.x = x.data(), .w = w.data(), .b = problem.bias ? b.data() : nullptr, .y = y.data()},
                   {.workspace = workspace.get(), .workspace_bytes = bytes, .executor = threads.get()});
  if (!status.ok()) return fail(status);

  // 6. What was chosen and why; then the result. With these values the outputs sum to
  //    0.5 * (products that land inside the output) + 0.25 * (outputs, when there is a bias).
  double sum = 0.0;
  for (float value : y) sum += value;
  std::printf("upconv %s\n%s", UPCONV_VERSION, plan.explain().c_str());
  std::printf("outputs %zu, sum %.2f, first %g\n", y.size(), sum, y.empty() ? 0.0 : double(y.front()));
  return 0;
}
