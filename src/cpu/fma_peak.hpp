// How many multiply-adds a core of this machine does per second when nothing else stands in the way:
// what benchmarks divide by. Called by the torch binding's _fma_peak for `upconv bench`.
#pragma once

#include <cstdint>

#include "upconv/visibility.hpp"

namespace upconv::cpu {

/// GFLOP/s (a multiply-add is two) of the calling thread in fp32 with the active instruction set, over about `seconds`
/// of its own processor time: other load on the machine takes clock rate at most, not time.
UPCONV_API double fma_peak(double seconds);

/// One chunk of it, compiled once per instruction set: `rounds` multiply-adds in each of a register file's chains.
struct FmaIsa {
  double (*flop)(std::int64_t rounds);  ///< Runs the chunk; returns how many operations it did.
};

}  // namespace upconv::cpu
