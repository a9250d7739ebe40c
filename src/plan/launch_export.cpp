// See launch_export.hpp.
#include "plan/launch_export.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "cuda/candidates.hpp"
#include "epilogue/cuda_text.hpp"
#include "jit/sources.hpp"
#include "plan/choose.hpp"

namespace upconv {

namespace {

/// A candidate that declines what no exported file can launch.
struct Exportable {
  std::string_view name;
  int variants;
  bool compared;
  const cuda::Candidate* candidate;

  [[nodiscard]] Result<std::unique_ptr<cuda::PassKernel>> make(const cuda::Request& request) const {
    auto made = candidate->make(request);
    if (!made.ok()) return made;
    if (const auto text = (*made)->launch_text(); !text.ok()) return text.status();
    return made;
  }
};

}  // namespace

Result<ExportedPass> export_pass(const Problem& asked, Pass pass, int architecture, const Epilogue& epilogue,
                                 bool any_size) {
  if (Status s = validate(asked); !s.ok()) return s;
  // The last candidate takes every problem, and counts so many samples with indices of 64 bits.
  Problem problem = asked;
  if (any_size) problem.batch = 1 << 30;
  const auto candidates = any_size ? cuda::candidates(pass).last(1) : cuda::candidates(pass);
  const auto target = cuda_target_model(architecture);
  if (!target.ok()) return target.status();
  const Epilogue none;
  const cuda::Request request{{problem, make_geometry(problem), pass, pass == Pass::forward ? epilogue : none},
                              **target};
  std::vector<Exportable> list;
  for (const cuda::Candidate& c : candidates) list.push_back({c.name, c.variants, c.compared, &c});
  Choice<cuda::PassKernel> choice;
  walk(list, {}, request, choice);
  if (choice.kernel) {
    const auto text = choice.kernel->launch_text();
    if (!text.ok()) return text.status();
    ExportedPass e{choice.name, choice.kernel->detail(), {}, text->header, text->type, text->fields};
    for (const jit::Program& p : text->programs) e.kernels.push_back({p.file, p.entry, p.preamble});
    return e;
  }
  std::string reasons;
  for (const Decline& d : choice.declined) reasons += "; " + d.candidate + ": " + d.reason;
  return unsupported("no candidate for " + std::string(to_string(pass)) + " of " + to_string(problem) + reasons);
}

std::string_view kernel_text(std::string_view name) {
  for (const jit::Source& s : jit::sources())
    if (s.name == name) return s.text;
  return {};
}

}  // namespace upconv
