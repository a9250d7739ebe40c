// A long kernel with one output channel (an inverse STFT) as a layer of many channels on the same memory: what the
// plan of the CUDA engine asks its candidates about beside the problem itself. (The CPU's cpu_residues is the same
// idea, for forward, applied to its own geometry.)
//
// With stride s, kernel k = s*q and padding p = s*u, position and tap split the same way: o = s*j + r and t = s*a + r'
// with 0 <= r, r' < s. o + p = s*i + t then holds exactly when r = r' and j + u = i + a, which says nothing of s:
//   y[n, 0, s*j + r] = sum over ci and a of x[n, ci, i] * w[ci, 0, s*a + r],   j + u = i + a.
// That is a problem of stride 1, kernel q and padding u whose output channels are the s residues. y[n, 0, s*j + r] lies
// where channel r of position j of a channels_last tensor does, w[ci, 0, s*a + r] where tap a of channel r of
// channels_last weights does, and x is the same tensor. So forward, dx and dw of the one are those of the other, with
// the same pointers. db is not: it has one sum where the other problem has s; nor is there a bias or an epilogue that
// would know all residues as one channel.
#pragma once

#include <optional>

#include "upconv/problem.hpp"

namespace upconv {

/// The valid problem `p` as a valid one, without bias, whose channels are the residues of p's stride. None where the
/// identity needs what p does not have (one dimension, one output channel, a stride that divides kernel and padding, no
/// dilation, no output_padding), and where it would not pay: strides below 8 or fewer than 16 input channels.
std::optional<Problem> residues_as_channels(const Problem& p);

}  // namespace upconv
