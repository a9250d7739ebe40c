// The shape algebra every engine shares: a problem reduced to three spatial dimensions, and its phase
// decomposition. Pure functions; this folder knows no engine.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "upconv/problem.hpp"

namespace upconv {

/// A valid problem with exactly three spatial dimensions (D, H, W): missing outer ones are 1 with kernel 1,
/// stride 1, padding 0. Channel counts are per group.
struct Geometry {
  std::int64_t batch = 0;
  std::int64_t groups = 1;
  std::int64_t ci = 0;  ///< input channels of one group
  std::int64_t co = 0;  ///< output channels of one group
  std::array<std::int64_t, 3> in{}, out{}, kernel{}, stride{}, padding{}, dilation{};

  [[nodiscard]] std::int64_t in_volume() const { return in[0] * in[1] * in[2]; }
  [[nodiscard]] std::int64_t out_volume() const { return out[0] * out[1] * out[2]; }
  [[nodiscard]] std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  [[nodiscard]] std::int64_t in_channels() const { return groups * ci; }
  [[nodiscard]] std::int64_t out_channels() const { return groups * co; }
};

Geometry make_geometry(const Problem& problem);

/// A tap of one dimension within its phase: output position q of the phase reads input i = q - offset.
struct PhaseTap {
  std::int64_t tap = 0;
  std::int64_t offset = 0;
};

/// The outputs o of one dimension with (o + padding) mod stride == residue: o = stride*q + residue - padding
/// for q in [q_begin, q_end). A phase with no tap receives only the bias.
struct Phase {
  std::int64_t residue = 0;
  std::int64_t q_begin = 0;
  std::int64_t q_end = 0;
  std::vector<PhaseTap> taps;
};

/// All `stride` phases of dimension `dim` (0 = D, 1 = H, 2 = W), in order of residue; some may be empty.
std::vector<Phase> make_phases(const Geometry& geometry, int dim);

/// Inputs i for which tap `t` lands inside the output: 0 <= stride*i + dilation*t - padding < out.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
Range tap_inputs(const Geometry& geometry, int dim, std::int64_t tap);

/// Element strides of the weight (in_channels, out_channels/groups, kd, kh, kw).
struct WeightStrides {
  std::int64_t ci = 0, co = 0;
  std::array<std::int64_t, 3> tap{};
};
WeightStrides weight_strides(const Problem& problem, const Geometry& geometry);

}  // namespace upconv
