// Launch of turn.cuh: x and dy of a pass with their channels where its kernel wants them, in the workspace.
#pragma once

#include "arguments/turn.cuh"
#include "launch/sizes.hpp"

namespace upconv::launch {

/// One tensor of a pass: whether it is turned, and how.
struct TurnedTensor {
  bool turned = false, from_last = false;  ///< Channels lie last before, first behind.
  Int channels = 1, positions = 1, batch = 1;

  /// Where a plane has one position, or there is one channel, both orders are the same.
  bool needed() const { return turned && channels > 1 && positions > 1 && batch > 0; }
  Int rows() const { return from_last ? positions : channels; }
  Int columns() const { return from_last ? channels : positions; }
  Int blocks(Int element_bytes) const {
    return needed() ? batch * ceil_div(rows(), 128 / element_bytes) * ceil_div(columns(), 32) : 0;
  }
  /// In the workspace, where tensors begin at multiples of 256.
  Int bytes(Int element_bytes) const {
    return needed() ? ceil_div(batch * channels * positions * element_bytes, 256) * 256 : 0;
  }
};

struct TurnLaunch {
  const char* refusal = nullptr;
  TurnedTensor of[2];
  Int element_bytes = 2;

  bool needed() const { return of[0].needed() || of[1].needed(); }
  Int bytes() const { return of[0].bytes(element_bytes) + of[1].bytes(element_bytes); }
  /// Predicted: both tensors read and written, some of it from L2, and a launch.
  double seconds() const { return needed() ? 3e-6 + double(bytes()) / 1.5e12 : 0.0; }
};

inline TurnLaunch turn_launch(const TurnedTensor& a, const TurnedTensor& b, Int element_bytes) {
  TurnLaunch l{nullptr, {a, b}, element_bytes};
  if (a.blocks(element_bytes) + b.blocks(element_bytes) > 0x7fffffff) l.refusal = "too much to turn";
  return l;
}

/// Puts kernel `number` on the stream, where anything is to be turned; `tensors` are those of the pass before, those
/// that its kernel reads behind. `memory`: l.bytes(), at a multiple of 16.
template <class Start>
bool run(const TurnLaunch& l, const void* (&tensors)[2], char* memory, int number, Start& start) {
  if (!l.needed()) return true;
  arguments::Turns turns{};
  unsigned blocks = 0;
  for (int i = 0; i < 2; ++i) {
    const TurnedTensor& t = l.of[i];
    if (!t.needed()) continue;
    const Int each = 16 / l.element_bytes;
    turns.of[i] = {static_cast<const char*>(tensors[i]),
                   memory,
                   static_cast<unsigned>(t.blocks(l.element_bytes)),
                   int(t.rows()),
                   int(t.columns()),
                   t.columns() % each == 0 && aligned(tensors[i], 16),
                   t.rows() % each == 0};
    tensors[i] = memory, memory += t.bytes(l.element_bytes), blocks += turns.of[i].blocks;
  }
  void* list[] = {&turns};
  return start(number, Shape{blocks, l.element_bytes == 2 ? 128u : 256u, 0}, list);
}

}  // namespace upconv::launch
