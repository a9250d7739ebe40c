// What tuning found fastest on a GPU, kept in a file: which alternative runs a pass of a problem. A plan that finds its
// problem here takes that alternative, as long as the family still makes the same tile of it (cuda_plan.cpp);
// upconv.tune writes it.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "plan/target.hpp"
#include "upconv/epilogue.hpp"
#include "upconv/problem.hpp"
#include "upconv/status.hpp"

namespace upconv {

/// A line of the file's answer.
struct TunedChoice {
  std::string alternative;  ///< As Plan::alternatives() names it, "cuda_tiles:3".
  std::string detail;       ///< What the kernel said of itself when it was measured; another detail is another kernel.
};

/// Many threads and processes may share one file: each entry is appended by one write, and the last of a problem holds.
/// A file that cannot be read or a damaged line is no entry; only remember() reports what went wrong.
class TunedChoices {
 public:
  /// Keeps its entries in `file`, read at the first look; an empty name keeps nothing.
  explicit TunedChoices(std::string file) : file_(std::move(file)) {}

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] std::optional<TunedChoice> find(const CudaTarget& target, const Problem& problem, Pass pass,
                                                const Epilogue& epilogue) const;
  Status remember(const CudaTarget& target, const Problem& problem, Pass pass, const Epilogue& epilogue,
                  const TunedChoice& choice);
  /// Removes the file and what was read of it; how many entries that were.
  std::size_t forget();

 private:
  const std::map<std::string, TunedChoice>& entries() const;

  std::string file_;
  mutable std::mutex mutex_;
  mutable bool read_ = false;
  mutable std::map<std::string, TunedChoice> entries_;  ///< By GPU, pass, problem and epilogue.
};

/// The user's: "tuned.tsv" in the folder of the kernel cache.
TunedChoices& user_tuned_choices();

}  // namespace upconv
