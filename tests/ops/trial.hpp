// A trial: one problem with data, run through candidates and judged against the oracle, with guarded buffers,
// poisoned outputs and a hostile workspace. The operator tests and the fuzzer are lists of trials.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/guarded.hpp"
#include "ops/oracle.hpp"
#include "plan/candidate.hpp"
#include "upconv/plan.hpp"

namespace upconv::test {

inline constexpr Pass all_passes[] = {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias};

/// What the tensors hold.
enum class Data {
  integers,  ///< -4 .. 4: every sum is exact in fp32, so results must be equal.
  uniform,   ///< [-1, 1): results must be within the bound.
  specials,  ///< integers with a few inf, -inf and NaN: they reach the outputs that use them and no other.
};

/// How a trial runs, beside its problem. Everything follows from `seed`.
struct Setting {
  std::uint64_t seed = 1;
  Data data = Data::integers;
  Epilogue epilogue;
  int workers = 1;
  bool threads = false;       ///< A real pool; else the workers run one after the other, last one first.
  Flush flush = Flush::back;  ///< Which side of each tensor touches an unmapped page.
  int misalign = 0;           ///< Elements by which tensors start after an aligned address (Flush::front).
};

/// Bits of a result, for comparing runs with each other.
using Bits = std::vector<unsigned char>;

struct Outcome {
  bool ran = false;     ///< False: the candidate declined, `message` says why.
  std::string message;  ///< Empty: all is well.
  Bits bits;            ///< What was written.
  [[nodiscard]] bool failed() const { return ran && !message.empty(); }
};

/// Names of the candidates of a pass, in order of preference.
std::vector<std::string> candidate_names(Pass pass);
/// Names of all candidates of all passes.
std::vector<std::string> candidate_names();

class Trial {
 public:
  Trial(const Problem& problem, const Setting& setting);

  /// Runs one pass with the named candidate ("" lets the plan choose) and judges it.
  Outcome run(const std::string& candidate, Pass pass) {
    return run(candidate, pass, setting_.workers, setting_.threads);
  }
  Outcome run(const std::string& candidate, Pass pass, int workers, bool threads);

  /// Every pass with every candidate and with the plan's choice; the first failure, or "".
  /// `ran` counts what did not decline.
  std::string run_all(const std::string& only = {}, std::int64_t* ran = nullptr);

  [[nodiscard]] const Problem& problem() const { return problem_; }
  [[nodiscard]] const Setting& setting() const { return setting_; }
  [[nodiscard]] const Oracle& oracle() const { return oracle_; }
  /// Logical values of the inputs, as stored.
  std::vector<double> x, w, b, dy;

 private:
  struct Subject;
  Subject subject(const std::string& candidate, Pass pass);
  Subject find_subject(const std::string& candidate, Pass pass);
  [[nodiscard]] std::size_t workspace_limit(int workers) const;
  void place(Guarded& buffer, const std::vector<double>& values, std::int64_t channels, std::int64_t volume,
             Layout layout);
  std::string judge(Pass pass, const Guarded& out, std::int64_t channels, std::int64_t volume, Layout layout) const;

  Problem problem_;
  Setting setting_;
  Sizes size_;
  Oracle oracle_;
};

/// The trial in words, for failure messages: problem, epilogue, data, workers, instruction set.
std::string describe(const Problem& problem, const Setting& setting);

/// `workers` workers on the calling thread, in falling order; checks that it is asked for 1 .. workers.
class BackwardsExecutor final : public Executor {
 public:
  explicit BackwardsExecutor(int workers) : workers_(workers) {}
  [[nodiscard]] int workers() const override { return workers_; }
  void run(int count, void (*body)(void*, int), void* context) override {
    misused_ = misused_ || count < 1 || count > workers_;
    for (int i = count; i-- > 0;) body(context, i);
  }
  [[nodiscard]] bool misused() const { return misused_; }

 private:
  int workers_;
  bool misused_ = false;
};

}  // namespace upconv::test
