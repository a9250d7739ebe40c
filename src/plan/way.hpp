// How a CUDA plan names a way to run a pass, for Plan::create's `only`, alternatives() and the file of tuned choices:
// "cuda_tiles", its third tile after the best "cuda_tiles:3", and the same of the problem that has residues as channels
// (plan/residues_form.hpp), "cuda_tiles+residues" and "cuda_tiles+residues:3".
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>

namespace upconv {

inline constexpr std::string_view residues_suffix = "+residues";

struct Way {
  std::string candidate;
  bool residues = false;
  int variant = 0;

  /// The candidate and what it is asked about, of whatever tile.
  [[nodiscard]] std::string family() const { return candidate + std::string(residues ? residues_suffix : ""); }
  [[nodiscard]] std::string name() const { return family() + (variant == 0 ? "" : ":" + std::to_string(variant)); }
};

/// None for what is no such name, "cuda_tiles:x". Whether there is a candidate of that name is not looked at; an empty
/// text is a way without a candidate.
inline std::optional<Way> parse_way(std::string_view text) {
  const std::size_t colon = text.find(':');
  Way way;
  if (colon != std::string_view::npos) {
    const std::string_view number = text.substr(colon + 1);
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), way.variant);
    if (error != std::errc{} || stop != number.data() + number.size() || way.variant < 0) return {};
    text = text.substr(0, colon);
    if (text.empty()) return {};
  }
  way.residues = text.ends_with(residues_suffix);
  if (way.residues) text.remove_suffix(residues_suffix.size());
  if (way.residues && text.empty()) return {};
  way.candidate = text;
  return way;
}

}  // namespace upconv
