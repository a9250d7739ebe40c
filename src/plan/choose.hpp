// The walk that every engine's plan makes: of a pass's candidates, keep the first that accepts, and every reason
// before it. Candidates with a cost model are compared: where the first that accepts has one, the others with one are
// asked too, and the shortest predicted time is kept.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "plan/candidate.hpp"
#include "upconv/plan.hpp"

namespace upconv {

inline constexpr std::array passes = {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias};
inline constexpr std::size_t index_of(Pass pass) { return static_cast<std::size_t>(pass); }

struct Decline {
  std::string candidate;
  std::string reason;
};

/// What was decided about one pass.
template <class Kernel>
struct Choice {
  std::string name;
  std::unique_ptr<Kernel> kernel;
  std::vector<Decline> declined;
};

template <class Kernel>
using Choices = std::array<Choice<Kernel>, passes.size()>;

/// Whether a candidate's predictions stand beside those of others.
template <class Candidate>
bool is_compared(const Candidate& c) {
  if constexpr (requires { c.variants; })
    return c.variants > 1 || c.compared;
  else
    return false;
}

/// Keeps the faster of the choice so far and `other`, and says what the other was predicted to take. What has no cost
/// model is slower than what has one.
template <class Kernel>
void keep_faster(Choice<Kernel>& choice, std::string_view name, std::unique_ptr<Kernel> other) {
  if constexpr (requires { other->predicted_seconds(); }) {
    std::string loser(name);
    double best = choice.kernel->predicted_seconds(), rest = other->predicted_seconds();
    if (rest > 0.0 && (best <= 0.0 || rest < best)) {
      std::swap(best, rest);
      std::swap(loser, choice.name);
      choice.kernel = std::move(other);
    }
    char text[80];
    if (rest > 0.0)
      std::snprintf(text, sizeof text, "predicted %.1f us against %.1f us", rest * 1e6, best * 1e6);
    else
      std::snprintf(text, sizeof text, "no predicted time against %.1f us", best * 1e6);
    choice.declined.push_back({std::move(loser), text});
  }
}

/// Asks the candidates of `list` one after the other. With `only` all but the one of that name are passed over.
/// `suffix` is added to the names of all: what else than the plan's problem they are asked about.
template <class Kernel, class List, class Question>
void walk(const List& list, const std::string& only, const Question& question, Choice<Kernel>& choice,
          std::string_view suffix = {}) {
  bool compares = false;
  for (const auto& c : list) {
    if (choice.kernel && !(compares && is_compared(c))) continue;
    std::string name = std::string(c.name).append(suffix);
    if (!only.empty() && c.name != only) {
      choice.declined.push_back({std::move(name), "only " + std::string(only).append(suffix) + " was asked for"});
      continue;
    }
    Status bounds = &c == &list.back() ? Status{} : within_bounds(question.geometry);
    auto made = bounds.ok() ? c.make(question) : Result<std::unique_ptr<Kernel>>(std::move(bounds));
    if (!made.ok()) {
      choice.declined.push_back({std::move(name), made.status().message()});
    } else if (choice.kernel) {
      keep_faster(choice, name, std::move(made).value());
    } else {
      choice.name = std::move(name);
      choice.kernel = std::move(made).value();
      compares = is_compared(c);
    }
  }
}

/// Fills `choices`. `candidates(pass)` lists a pass's candidates, `fill(pass, only, choice)` walks over them. `only`
/// names one candidate to be used for every pass that has it; empty lets the list decide, as `fill` does for a pass
/// that gets an empty name. With `may_decline` a pass that `only` declines stays without a kernel, as long as it takes
/// another one.
template <class Kernel, class Candidates, class Fill>
Status choose(const Problem& problem, const std::string& only, Candidates candidates, Fill fill,
              Choices<Kernel>& choices, bool may_decline = false) {
  bool known = only.empty();
  for (Pass pass : passes)
    for (const auto& c : candidates(pass)) known |= c.name == only;
  if (!known) return invalid_argument("plan: there is no candidate named '" + only + "'");
  std::string reasons;
  bool used = false;
  for (Pass pass : passes) {
    Choice<Kernel>& choice = choices[index_of(pass)];
    bool forced = false;
    for (const auto& c : candidates(pass)) forced |= c.name == only;
    fill(pass, forced ? only : std::string(), choice);
    used |= forced && choice.kernel;
    if (choice.kernel) continue;
    reasons += (reasons.empty() ? "no candidate for " : "; no candidate for ") + std::string(to_string(pass)) + " of " +
               to_string(problem);
    for (const Decline& d : choice.declined) reasons += "; " + d.candidate + ": " + d.reason;
    if (!forced || !may_decline) return unsupported(reasons);
  }
  return only.empty() || used ? Status{} : unsupported(reasons);
}

/// What every run checks of its workspace.
inline Status check_workspace(Pass pass, std::size_t need, const Launch& launch) {
  if (need == 0) return {};
  if (launch.workspace == nullptr || launch.workspace_bytes < need)
    return invalid_argument(std::string(to_string(pass)) + ": workspace of " + std::to_string(launch.workspace_bytes) +
                            " bytes is smaller than the " + std::to_string(need) + " that workspace_bytes() asks for");
  if (reinterpret_cast<std::uintptr_t>(launch.workspace) % 64 != 0)
    return invalid_argument(std::string(to_string(pass)) + ": the workspace must be aligned to 64 bytes");
  return {};
}

/// The output size as explain() shows it, "18x36x70".
inline std::string output_text(const Problem& problem) {
  const Extent out = output_size(problem);
  std::string s;
  for (int d = 0; d < problem.rank; ++d) s += (d ? "x" : "") + std::to_string(out[d]);
  return s;
}

}  // namespace upconv
