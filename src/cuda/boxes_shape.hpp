// How a forward or dx pass becomes boxes, fragments and products: the specialisation of kernels/boxes.cuh as numbers.
// Pure functions of problem and form; src/cuda/boxes.cpp is the candidate, boxes_cost.cpp chooses among forms.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "problem/geometry.hpp"

namespace upconv::cuda {

/// One spatial dimension of a gather: source = step * q + offset of the tap, result = phases * q + phase - padding.
/// Padding that is no multiple of the stride would leave q one more value than the result has strides, and boxes that
/// begin before the result does: where no tap needs an offset of its own for it, phases are counted from the result's
/// first element on instead, and `padding` is 0.
struct BoxAxis {
  std::vector<int> offset;  ///< By tap, from the smallest (`first`).
  std::vector<int> phase;   ///< By tap.
  std::vector<int> used;    ///< By phase: its number among the phases with taps, or -1.
  int first = 0, span = 0;  ///< Smallest offset; largest difference from it.
  int step = 1, phases = 1, used_count = 1;
  int spacing = 1;  ///< Results of one source element lie this far apart, from tap to tap.
  std::int64_t padding = 0, q_begin = 0, q_end = 1;
};

/// A pass, without its sizes' influence but for the ranges of q.
struct BoxProblem {
  bool backward = false, tf32 = false;
  int parts = 1;        ///< 2: high and low bf16,
  bool folded = false;  ///< the source's in one product, as the halves of its depth.
  int element_bytes = 4;
  std::int64_t k = 0, n = 0;  ///< Channels of source and result, a group.
  std::int64_t batch = 0, groups = 1;
  std::array<std::int64_t, 3> src{}, out{};
  std::array<BoxAxis, 3> axis;  ///< D, H, W.
  BoxAxis whole_depth;          ///< D as a dimension of boxes, where axis[0] stands for a loop.
  int depth_taps = 1;

  [[nodiscard]] int channels_k() const { return tf32 || folded ? 8 : 16; }  ///< Of one product.
  /// Stages of a sum over all channels.
  [[nodiscard]] std::int64_t chunks(int steps) const { return (k + channels_k() * steps - 1) / (channels_k() * steps); }
};

enum class Merge { none = -1, depth = 0, height = 1 };

/// What is compiled in, but for what follows from the problem.
struct BoxForm {
  int warpgroups = 2;  ///< That multiply.
  int columns = 0;     ///< Result channels of a block (NB).
  int segments = 1, rows = 1;
  Merge merge = Merge::none;
  bool depth_loop = false;
  bool resident = true, shared = false;
  bool wide = false;        ///< Boxes are multiples of 16 positions wide.
  bool line = false;        ///< Boxes are rows of positions.
  bool direct = false;      ///< Sums go to the result from registers.
  bool overlapped = false;  ///< Taps of W are columns of the products; their sums are added up as they are stored.
  int room = 0;             ///< Overlapped: source elements that are staged for a tap and row set, and empty places.
  int stages = 2;
  int steps = 1;         ///< Products' depths of channels in a stage.
  int together = 1;      ///< Steps of a store between two meetings of a warpgroup.
  int source_words = 0;  ///< Room of a stage for its source.
  unsigned shared_bytes = 0;
};

struct Product {
  int block, columns, slot;  ///< First block of sums, blocks, first slot of the weights.
};
struct Fragment {
  int segment, step, d, h, w;
  std::vector<Product> products;
};

/// A form's fragments and tables.
struct BoxWork {
  std::vector<Fragment> fragments;
  std::vector<int> slot_of_tap;  ///< By tap (td, th, tw), td left out in a depth loop.
  std::vector<int> block_of;     ///< By ((row * used_d + ud) * used_h + uh) * used_w + uw.
  int blocks = 0;                ///< Of all segments.
  int slots = 0;
};

BoxProblem box_problem(const Geometry& g, bool backward, bool tf32, int parts, int element_bytes);

/// Axes as a form has them: D is the loop or not; overlapped, all taps of W meet at offset 0, each a phase of its own.
std::array<BoxAxis, 3> axes_of(const BoxProblem& p, const BoxForm& f);

/// The order of sums and weights with the fewest and widest products.
BoxWork box_work(const BoxProblem& p, const BoxForm& f);

/// UPCONV_FRAGMENTS.
std::string fragments_text(const BoxWork& work);

}  // namespace upconv::cuda
