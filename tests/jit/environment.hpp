// What the tests of src/jit run in: a cache folder of their own, the real NVRTC where there is one (counted), the real
// driver where there is one, else the fake. Set up by main.cpp before anything of upconv looks at the environment.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "jit/counting_nvrtc.hpp"
#include "jit/fake_driver.hpp"
#include "jit/program.hpp"

namespace upconv::jit::testing {

/// The fake driver's record, or null where the machine has a driver of its own.
FakeCuda* fake_driver();
/// The counting NVRTC's record, or null without NVRTC.
CountingNvrtc* compiler();

#define UPCONV_NEEDS_NVRTC() \
  if (!compiler()) GTEST_SKIP() << "this machine has no NVRTC (set UPCONV_TEST_NVRTC)"
#define UPCONV_NEEDS_FAKE_DRIVER() \
  UPCONV_NEEDS_NVRTC();            \
  if (!fake_driver()) GTEST_SKIP() << "this machine has a CUDA driver: tests/gpu runs kernels on it"

/// A new empty folder, removed with the process.
std::filesystem::path new_folder();

/// A small kernel `probe` whose text holds `word`, so that it is a program of its own.
Program probe(const std::string& word);

/// Starts this test program again with the words of a role (see main.cpp); its process id.
int start_role(const std::vector<std::string>& words);
/// Waits for it; its exit code, or minus the signal that ended it.
int finish(int process);

}  // namespace upconv::jit::testing
