// Chooses how a block of kernels/weight_wgmma.cuh cuts dw: rows (output channels x taps), input channels, boxes of
// positions, warpgroups, stages and the split of the positions over blocks. Pure functions of a shape and a GPU's
// limits and rates.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/weight_shape.hpp"
#include "launch/weight_wgmma.hpp"
#include "plan/target.hpp"

namespace upconv::cuda {

struct WgmmaWeightTile {
  std::array<int, 3> taps{}, box{};
  int co = 1, columns = 8;            ///< Output channels and input channels of a block.
  int fragments = 1, warpgroups = 2;  ///< Fragments of 64 rows a warpgroup; warpgroups that multiply.
  int stages = 2;
  bool x_bulk = false;  ///< x comes by bulk copies of rows of row_bytes.
  /// Their lines begin anywhere, and come from the 16 bytes before on: moved to where they belong, or boxes begin
  /// there.
  bool x_shifted = false, x_early = false;
  int x_period = 1;             ///< Channels a multiple of this apart lie side by side; early, a block has only such.
  bool y_bulk = false;          ///< dy comes by bulk copies: its lines are whole_lines of weight_shape.hpp.
  int lead = 0, y_vector = 1;   ///< Elements before tap 0's row so that copies of y_vector elements are aligned.
  int span_read = 0, span = 0;  ///< Elements of a line of dy's tile that are brought; from line to line.
  int channel = 0;              ///< Elements from channel to channel of dy's tile.
  /// dy comes 16 bytes at a time wherever its lines begin: they lie as YLines says, `span` apart at least.
  bool y_pieces = false;
  int spare = 0;  ///< Elements that channels then lie further apart than they must.
  int lines_d = 0, lines_h = 0;
  double conflicts = 1.0;  ///< Times that a load of dy takes, for banks.
  std::int64_t tiles = 0;  ///< Blocks for one share of the positions.
  std::int64_t boxes = 0, splits = 1;
  int cluster = 1;      ///< The splits of a tile in a cluster, which adds up their sums; 1: through the workspace.
  double cycles = 0.0;  ///< A multiprocessor spends on one box.
  double seconds = 0.0;

  [[nodiscard]] int tap_count() const { return taps[0] * taps[1] * taps[2]; }
  [[nodiscard]] int positions() const { return box[0] * box[1] * box[2]; }
  /// Registers leave room for a warpgroup of its own that finishes stages beside two that multiply, not beside three.
  [[nodiscard]] bool apart() const { return warpgroups == 2; }
  [[nodiscard]] int threads() const { return (warpgroups + (apart() ? 2 : 1)) * 128; }
  /// Registers of a thread that multiplies, brings, finishes.
  [[nodiscard]] int compute_registers() const { return apart() ? 200 : 152; }
  [[nodiscard]] int bring_registers() const { return apart() ? 72 : 56; }
  [[nodiscard]] int finish_registers() const { return 40; }
};

/// Bytes of a row of x in shared memory: whole lines of the box, as bulk copies bring them, where these are 32 or more;
/// lines as long as x's are one run.
int row_bytes(const WeightShape& shape, const WgmmaWeightTile& tile);
/// 1 where one word of dy holds what two taps side by side read, at every position; 2 where the next position's word is
/// the next; else 0.
int paired(const WeightShape& shape, const WgmmaWeightTile& tile);

/// dy's tile where its lines are brought in pieces of 16 bytes: all distances in it are, modulo these, what they are in
/// the tensor, so that every line lies as far behind such a multiple as there.
struct YLines {
  int pitch_d = 0, pitch_h = 0;       ///< Elements from line to line of one residue.
  std::vector<int> extra_d, extra_h;  ///< By line: what its residue's lines lie further on.
  int channel = 0;                    ///< Elements from channel to channel.

  /// By line, those of H side by side: elements from its channel's first.
  [[nodiscard]] std::vector<int> places(int lines_h) const;
};
/// `span`: elements from line to line at least; `apart`: spare ones between channels, a multiple of 16 bytes.
YLines y_lines(const WeightShape& shape, const WgmmaWeightTile& tile, int span, int apart);
/// dy's strides C, D, H in elements, modulo 16 bytes.
std::array<int, 3> y_classes(const WeightShape& shape);

/// The shape with those taps of H as columns of the products that meet the same lines of dy; itself where no two do, or
/// bulk copies do not bring x in lines.
WeightShape stacked(WeightShape shape);

int stage_bytes(const WeightShape& shape, const WgmmaWeightTile& tile);

/// What a launch of that tile depends on.
launch::WeightWgmmaFixed weight_fixed(const WeightShape& shape, const WgmmaWeightTile& tile, const CudaTarget& target);

/// At most `count` tiles, the one predicted to be fastest first; none when none fits the GPU.
std::vector<WgmmaWeightTile> wgmma_weight_tiles(const WeightShape& shape, const CudaTarget& target, int count);

}  // namespace upconv::cuda
