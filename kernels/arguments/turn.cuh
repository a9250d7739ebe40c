// Matrices that turn.cuh turns, one a sample. launch/turn.hpp fills it.
#pragma once

namespace upconv::arguments {

struct Turn {
  const char* from;        ///< [sample][row][column].
  char* to;                ///< [sample][column][row], at a multiple of 16 bytes.
  unsigned blocks;         ///< That turn it.
  int rows, columns;       ///< Of a sample.
  int wide_from, wide_to;  ///< Rows there begin at multiples of 16 bytes.
};

/// What one launch turns.
struct Turns {
  Turn of[2];
};

}  // namespace upconv::arguments
