// See residues_as_channels.hpp.
#include "problem/residues_as_channels.hpp"

namespace upconv {
namespace {

// Fewer leave most of a tensor core's tile empty in the problem of many channels too.
constexpr std::int64_t least_stride = 8, least_in_channels = 16;

}  // namespace

std::optional<Problem> residues_as_channels(const Problem& p) {
  const std::int64_t s = p.stride[0];
  if (p.rank != 1 || p.out_channels != 1 || p.groups != 1) return {};
  if (p.kernel[0] % s != 0 || p.padding[0] % s != 0 || p.dilation[0] != 1 || p.output_padding[0] != 0) return {};
  if (s < least_stride || p.in_channels < least_in_channels) return {};
  Problem q = p;
  q.out_channels = s;
  q.kernel[0] = p.kernel[0] / s;
  q.stride[0] = 1;
  q.padding[0] = p.padding[0] / s;
  q.bias = false;
  q.w_layout = q.y_layout = Layout::channels_last;
  return q;
}

}  // namespace upconv
