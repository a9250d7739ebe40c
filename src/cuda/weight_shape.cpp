// See weight_shape.hpp.
#include "cuda/weight_shape.hpp"

#include <algorithm>

namespace upconv::cuda {
namespace {

/// Where the problem has fewer than three dimensions, the batch becomes D: boxes may then span samples.
Geometry fold_batch(const Problem& problem, Geometry g) {
  if (problem.rank == 3) return g;
  g.in[0] = g.out[0] = g.batch;
  g.kernel[0] = g.stride[0] = g.dilation[0] = 1;
  g.padding[0] = 0;
  g.batch = 1;
  return g;
}

/// For a line of the tile, what to add to stride * line for the distance from the tile's corner.
std::string origin_text(const char* name, const WeightAxis& axis, int box, int stride) {
  std::string s = "__device__ constexpr int " + std::string(name) + "(int line) { return ";
  int start = 0;
  for (std::size_t p = 0; p < axis.residues.size(); ++p) {
    const int origin = axis.residues[p] - stride * start;
    start += box + axis.most[p];
    if (p + 1 < axis.residues.size()) s += "line < " + std::to_string(start) + " ? ";
    s += "(" + std::to_string(origin) + ")";
    if (p + 1 < axis.residues.size()) s += " : ";
  }
  return s + "; }\n";
}

/// First line of every plane.
std::vector<int> starts(const WeightAxis& axis, int box) {
  std::vector<int> s;
  int at = 0;
  for (const int most : axis.most) {
    s.push_back(at);
    at += box + most;
  }
  return s;
}

}  // namespace

WeightAxis weight_axis(int taps, int stride, int dilation) {
  WeightAxis axis;
  for (int t = 0; t < taps; ++t) axis.residues.push_back(dilation * t % stride);
  std::sort(axis.residues.begin(), axis.residues.end());
  axis.residues.erase(std::unique(axis.residues.begin(), axis.residues.end()), axis.residues.end());
  axis.most.assign(axis.residues.size(), 0);
  for (int t = 0; t < taps; ++t) {
    const auto at = std::lower_bound(axis.residues.begin(), axis.residues.end(), dilation * t % stride);
    const int plane = int(at - axis.residues.begin()), shift = dilation * t / stride;
    axis.plane.push_back(plane);
    axis.shift.push_back(shift);
    axis.most[plane] = std::max(axis.most[plane], shift);
  }
  return axis;
}

Geometry whole_lines(Geometry g) {
  g.stride[0] = g.stride[1] = 1;
  return g;
}

std::array<int, 3> whole_box(const Geometry& g, const std::array<int, 3>& box) {
  return {int(g.stride[0]) * (box[0] - 1) + 1, int(g.stride[1]) * (box[1] - 1) + 1, box[2]};
}

int lines_of(const WeightAxis& axis, int box) {
  int lines = 0;
  for (const int most : axis.most) lines += box + most;
  return lines;
}

std::vector<int> lines_of_taps(const Geometry& g, const std::array<int, 3>& taps, const std::array<int, 3>& box) {
  const WeightAxis axis_d = weight_axis(taps[0], int(g.stride[0]), int(g.dilation[0]));
  const WeightAxis axis_h = weight_axis(taps[1], int(g.stride[1]), int(g.dilation[1]));
  const std::vector<int> first_d = starts(axis_d, box[0]), first_h = starts(axis_h, box[1]);
  const int lines_h = lines_of(axis_h, box[1]);
  std::vector<int> lines;
  for (std::size_t d = 0; d < std::size_t(taps[0]); ++d)
    for (std::size_t h = 0; h < std::size_t(taps[1]); ++h)
      lines.push_back((first_d[std::size_t(axis_d.plane[d])] + axis_d.shift[d]) * lines_h +
                      first_h[std::size_t(axis_h.plane[h])] + axis_h.shift[h]);
  return lines;
}

std::string function_text(const char* name, const std::vector<int>& values) {
  std::string s = "__device__ constexpr int " + std::string(name) + "(int i) { return ";
  for (std::size_t i = 0; i + 1 < values.size(); ++i)
    s += "i == " + std::to_string(i) + " ? " + std::to_string(values[i]) + " : ";
  return s + std::to_string(values.back()) + "; }\n";
}

std::vector<int> tap_sets(int kernel) {
  std::vector<int> sets;
  for (int parts = 1; parts <= kernel; ++parts) {
    const int taps = (kernel + parts - 1) / parts;
    if (sets.empty() || sets.back() != taps) sets.push_back(taps);
  }
  return sets;
}

int weight_element(const Problem& problem) {
  return problem.dtype == DType::f32 ? 0 : problem.dtype == DType::f16 ? 1 : 2;
}

Result<WeightShape> weight_shape(const Request& request) {
  const Problem& problem = request.problem;
  const Geometry& g = request.geometry;
  if (problem.dtype == DType::f64) return unsupported("f64 has no tensor-core kernel here");
  if (problem.batch == 0) return unsupported("an empty batch has nothing to multiply");
  for (int i = 0; i < 3; ++i)
    if (g.out[i] >= (std::int64_t(1) << 31) - 4096 || g.batch >= (std::int64_t(1) << 31) - 4096)
      return unsupported("a size of " + std::to_string(g.out[i]) + " passes this kernel's 32-bit coordinates");
  const std::int64_t channels = std::max(g.in_channels() * g.in_volume(), g.out_channels() * g.out_volume());
  if (channels >= (std::int64_t(1) << 32))
    return unsupported(std::to_string(channels) + " elements a sample pass this kernel's 32-bit strides");
  WeightShape shape;
  shape.geometry = fold_batch(problem, g);
  shape.taps_h = int(g.kernel[1]);
  shape.folded = problem.rank < 3;
  shape.element_bytes = int(size_of(problem.dtype));
  shape.x_last = problem.x_layout == Layout::channels_last;
  shape.y_last = problem.y_layout == Layout::channels_last;
  shape.w_last = problem.w_layout == Layout::channels_last;
  shape.mode = problem.dtype != DType::f32              ? WeightMode::half
               : problem.precision == Precision::tf32   ? WeightMode::tf32
               : problem.precision == Precision::bf16x3 ? WeightMode::bf16x3
                                                        : WeightMode::ieee;
  return shape;
}

std::string constant_text(const std::string& name, std::int64_t value) {
  return "constexpr int " + name + " = " + std::to_string(value) + ";\n";
}

std::string weight_constants(const Request& request, const WeightShape& shape, const std::array<int, 3>& taps,
                             const std::array<int, 3>& box, int line_elements, bool whole,
                             const std::vector<int>* line_places) {
  const Problem& problem = request.problem;
  const Geometry& g = shape.geometry;
  std::string s = constant_text("element", weight_element(problem));
  s += constant_text("x_last", shape.x_last) + constant_text("y_last", shape.y_last);
  s += constant_text("CI", g.ci) + constant_text("CO", g.co) + constant_text("GROUPS", g.groups);
  const char axis_names[] = "DHW";
  for (int i = 0; i < 3; ++i) {
    const std::string axis(1, axis_names[i]);
    s += constant_text("K" + axis, g.kernel[i]) + constant_text("S" + axis, g.stride[i]);
    s += constant_text("D" + axis, g.dilation[i]) + constant_text("P" + axis, g.padding[i]);
    s += constant_text("T" + axis, taps[i]) + constant_text("B" + axis, box[i]);
    s += constant_text("G" + axis, (g.kernel[i] + taps[i] - 1) / taps[i]);
  }
  s += constant_text("walk_depth", g.kernel[0] > 1);
  const WeightStrides w = weight_strides(problem, request.geometry);
  s += "constexpr long long W_CI = " + std::to_string(w.ci) + ", W_CO = " + std::to_string(w.co) +
       ", W_D = " + std::to_string(w.tap[0]) + ", W_H = " + std::to_string(w.tap[1]) +
       ", W_W = " + std::to_string(w.tap[2]) + ";\n";

  const Geometry lines = whole ? whole_lines(g) : g;
  const std::array<int, 3> positions = whole ? whole_box(g, box) : box;
  const WeightAxis axis_d = weight_axis(taps[0], int(lines.stride[0]), int(lines.dilation[0]));
  const WeightAxis axis_h = weight_axis(taps[1], int(lines.stride[1]), int(lines.dilation[1]));
  s += constant_text("LD", lines_of(axis_d, positions[0])) + constant_text("LH", lines_of(axis_h, positions[1]));
  // From line to line of the tile, in the tensor; from position to position, in lines of the tile.
  s += constant_text("LINE_D", lines.stride[0]) + constant_text("LINE_H", lines.stride[1]);
  s += constant_text("STEP_D", whole ? g.stride[0] : 1) + constant_text("STEP_H", whole ? g.stride[1] : 1);
  s += origin_text("d_origin", axis_d, positions[0], int(lines.stride[0]));
  s += origin_text("h_origin", axis_h, positions[1], int(lines.stride[1]));
  std::vector<int> rows = lines_of_taps(lines, taps, positions);
  for (int& row : rows) row = line_places ? (*line_places)[std::size_t(row)] : row * line_elements;
  return s + function_text("row_offset", rows);
}

jit::Program weight_sum_program(const Problem& problem, const launch::WeightMmaFixed& fixed) {
  return {"weight_sum.cuh", "weight_sum",
          "namespace config {\n" + constant_text("element", weight_element(problem)) +
              constant_text("SLICES", fixed.sum_slices) + constant_text("VECTOR", fixed.sum_vector) + "}\n"};
}

}  // namespace upconv::cuda
