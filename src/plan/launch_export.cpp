// See launch_export.hpp.
#include "plan/launch_export.hpp"

#include <optional>
#include <utility>

#include "cuda/candidates.hpp"
#include "epilogue/cuda_text.hpp"
#include "jit/sources.hpp"
#include "plan/choose.hpp"

namespace upconv {

Result<ExportedPass> export_pass(const Problem& problem, Pass pass, int architecture, const Epilogue& epilogue) {
  if (Status s = validate(problem); !s.ok()) return s;
  const auto target = cuda_target_model(architecture);
  if (!target.ok()) return target.status();
  const Geometry geometry = make_geometry(problem);
  const Epilogue none;
  const cuda::Request request{{problem, geometry, pass, pass == Pass::forward ? epilogue : none}, **target};
  std::string reasons;
  // As plan/choose.hpp does: the first that accepts, or the shortest prediction among those that have a cost model.
  std::optional<ExportedPass> kept;
  double kept_seconds = 0.0;
  bool compares = false;
  for (const cuda::Candidate& c : cuda::candidates(pass)) {
    const auto declined = [&](const Status& s) { reasons += "; " + std::string(c.name) + ": " + s.message(); };
    if (kept && !(compares && is_compared(c))) continue;
    const bool last = &c == &cuda::candidates(pass).back();
    if (Status s = last ? Status{} : within_bounds(geometry); !s.ok()) {
      declined(s);
      continue;
    }
    const auto made = c.make(request);
    if (!made.ok()) {
      declined(made.status());
      continue;
    }
    const auto text = (*made)->launch_text();
    if (!text.ok()) {
      declined(text.status());
      continue;
    }
    ExportedPass e{std::string(c.name), (*made)->detail(), {}, text->header, text->type, text->fields};
    for (const jit::Program& p : text->programs) e.kernels.push_back({p.file, p.entry, p.preamble});
    const double seconds = (*made)->predicted_seconds();
    if (kept && (seconds <= 0.0 || (kept_seconds > 0.0 && seconds >= kept_seconds))) continue;
    if (!kept) compares = is_compared(c);
    kept = std::move(e);
    kept_seconds = seconds;
  }
  if (kept) return *std::move(kept);
  return unsupported("no candidate for " + std::string(to_string(pass)) + " of " + to_string(problem) + reasons);
}

std::string_view kernel_text(std::string_view name) {
  for (const jit::Source& s : jit::sources())
    if (s.name == name) return s.text;
  return {};
}

}  // namespace upconv
