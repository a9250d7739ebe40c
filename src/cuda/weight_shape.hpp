// What the kernels that keep dy's lines in shared memory by residue (weight_mma, weight_wgmma, input_wgmma) share on
// the host: the problem as they see it, those lines, the text of both, and their arithmetic.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/pass_kernel.hpp"
#include "launch/weight_mma.hpp"
#include "problem/geometry.hpp"

namespace upconv::cuda {

/// Of positive numbers.
template <class T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}
template <class T>
constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

/// How a fragment is multiplied; the numbers are kernels/weight_mma.cuh's `mode`.
enum class WeightMode { tf32 = 0, bf16x3 = 1, ieee = 2, half = 3 };

/// The problem as the kernel sees it: where D is not a dimension of the problem, the batch takes its place.
struct WeightShape {
  Geometry geometry;
  bool folded = false;  ///< The batch is geometry's D.
  WeightMode mode = WeightMode::tf32;
  int element_bytes = 4;
  bool x_last = false, y_last = false, w_last = false;
  bool x_turned = false, y_turned = false;  ///< Last in memory, turned before (turning.hpp): not x_last, y_last then.
  /// As many taps of H are columns of the products, lines of x `later` above one another's: geometry has the first tap
  /// of each such stack, and lines for all. dw has `taps_h` there; some stacks may lack their last.
  int stacked = 1, later = 0, taps_h = 0;
  /// Of dw.
  [[nodiscard]] std::int64_t taps() const { return geometry.taps() / geometry.kernel[1] * taps_h; }
  [[nodiscard]] int late() const { return later * (stacked - 1); }  ///< Lines of geometry that x does not have.
};

/// One dimension of dy's tile in shared memory: outputs of one residue mod the stride side by side ("plane").
struct WeightAxis {
  std::vector<int> residues;  ///< Of the planes, ascending.
  std::vector<int> most;      ///< By plane: the largest shift of its taps.
  std::vector<int> plane;     ///< By tap.
  std::vector<int> shift;     ///< By tap: position i of the box reads place i + shift of the plane.
};
WeightAxis weight_axis(int taps, int stride, int dilation);

/// Where all lines between a box's first and its last are kept as they lie in the tensor, as a bulk copy brings them,
/// the residues of D and H do not matter: `whole_lines` is a geometry, `whole_box` a box that have the same lines of
/// one residue each.
Geometry whole_lines(Geometry geometry);
std::array<int, 3> whole_box(const Geometry& geometry, const std::array<int, 3>& box);

/// Lines of a tile of dy for `box` positions.
int lines_of(const WeightAxis& axis, int box);

/// For every row of taps (D, H), the line of dy's tile that it reads at the box's first position.
std::vector<int> lines_of_taps(const Geometry& geometry, const std::array<int, 3>& taps, const std::array<int, 3>& box);

/// Ways to cut `kernel` taps into equal sets, the last perhaps shorter: taps of a set.
std::vector<int> tap_sets(int kernel);

/// The problem of a request; or why its coordinates do not fit.
Result<WeightShape> weight_shape(const Request& request);

/// `config::element` of kernels/mma/weight_element.cuh.
int weight_element(const Problem& problem);

/// A device function of small integers, as a chain of choices that folds away where its argument is a constant.
std::string function_text(const char* name, const std::vector<int>& values);
std::string constant_text(const std::string& name, std::int64_t value);
/// What both kernels are told of the problem, of a block's taps and of its boxes. `line_elements`: of a line of dy's
/// tile, where these do not lie at `line_places`; `whole`: they are those of whole_lines.
std::string weight_constants(const Request& request, const WeightShape& shape, const std::array<int, 3>& taps,
                             const std::array<int, 3>& box, int line_elements, bool whole = false,
                             const std::vector<int>* line_places = nullptr);

/// Many partial sums of an element are shared by threads; few would leave most of these without any.
inline std::int64_t sum_slices(std::int64_t splits) { return splits > 8 ? 8 : 1; }
/// Elements of a thread: four where enough threads remain to fill a GPU.
inline std::int64_t sum_vector(std::int64_t dw_size, std::int64_t slices) {
  return dw_size % 4 == 0 && dw_size * slices >= std::int64_t(1) << 17 ? 4 : 1;
}
jit::Program weight_sum_program(const Problem& problem, const launch::WeightMmaFixed& fixed);

}  // namespace upconv::cuda
