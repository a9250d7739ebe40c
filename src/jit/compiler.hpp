// From a Program to the code of one architecture, with NVRTC; and the name under which that code is kept.
// Called by image.cpp, which looks on disk first.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jit/digest.hpp"
#include "jit/nvrtc.hpp"
#include "jit/program.hpp"
#include "upconv/status.hpp"

namespace upconv::jit {

/// What NVRTC is asked to make: machine code, or PTX for the driver to finish when NVRTC is older than the GPU.
struct Aim {
  std::string name;  ///< "sm_90a", or "compute_90" for PTX.
  bool ptx = false;
  bool exact = true;  ///< The architecture that was wanted, with its own instructions.
};

/// The best that an NVRTC which supports `architectures` can do for `wanted` ("sm_90a"): itself; else the newest of
/// the same major version below it, whose machine code it runs; else PTX of the newest below it.
Result<Aim> aim_for(const std::string& wanted, std::span<const int> architectures);

/// Machine code or PTX.
struct Image {
  std::string code;
  bool ptx = false;
  double seconds = 0.0;  ///< Of one core, that the compiler took.
  std::string notes{};   ///< What the assembler said of lost performance, in one line; mostly nothing.
};

/// NVRTC's options for an aim.
std::vector<std::string> compile_options(const Aim& aim);

/// Digest of everything that decides what the compiler makes of a program: the text of the preamble and of every
/// source that it and the program's file include, the options, NVRTC's version. No path and no date.
Digest key_of(const Program& program, const Nvrtc& compiler, const Aim& aim);

/// The whole program as one file that needs no include path: what a failed compile leaves for its reader.
std::string flat_source(const Program& program);

/// Compiles, without looking anywhere else. An error carries NVRTC's log, the entry, the options, and the path of the
/// saved source.
Result<Image> compile(const Program& program, const Nvrtc& compiler, const Aim& aim);

}  // namespace upconv::jit
