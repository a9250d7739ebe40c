// NVRTC, found and loaded when first asked for. compiler.cpp calls it; `upconv doctor` tells what was found.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "upconv/status.hpp"

namespace upconv::jit {

using NvrtcProgram = void*;

struct Nvrtc {
  std::string path;
  int major = 0, minor = 0;
  std::vector<int> architectures;  ///< That it compiles for, ascending: 75, 80, ... 120.

  int (*nvrtcVersion)(int*, int*);
  const char* (*nvrtcGetErrorString)(int);
  int (*nvrtcGetNumSupportedArchs)(int*);
  int (*nvrtcGetSupportedArchs)(int*);
  int (*nvrtcCreateProgram)(NvrtcProgram*, const char*, const char*, int, const char* const*, const char* const*);
  int (*nvrtcDestroyProgram)(NvrtcProgram*);
  int (*nvrtcCompileProgram)(NvrtcProgram, int, const char* const*);
  int (*nvrtcGetProgramLogSize)(NvrtcProgram, std::size_t*);
  int (*nvrtcGetProgramLog)(NvrtcProgram, char*);
  int (*nvrtcGetCUBINSize)(NvrtcProgram, std::size_t*);
  int (*nvrtcGetCUBIN)(NvrtcProgram, char*);
  int (*nvrtcGetPTXSize)(NvrtcProgram, std::size_t*);
  int (*nvrtcGetPTX)(NvrtcProgram, char*);
};

/// The compiler, or why there is none and where it was looked for. Loaded once, kept for the life of the process.
const Result<const Nvrtc*>& nvrtc();

/// Loads one library and asks its version: an error when it is not there or older than CUDA 12.
Result<const Nvrtc*> load_nvrtc(const std::string& path);

/// Where nvrtc() looks, in order. `packages` are site-packages folders, `majors` the CUDA versions to try, best first.
std::vector<std::string> nvrtc_places(std::span<const std::string> packages, std::span<const int> majors);

/// The site-packages (or dist-packages) folders that something in this process was loaded from: torch's, in Python.
std::vector<std::string> package_folders();

}  // namespace upconv::jit
