// The entry of every GoogleTest binary: under UPCONV_ISA it runs only where that instruction set exists.
// Exit code 77 tells ctest "skipped".
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "cpu/isa.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* asked = std::getenv("UPCONV_ISA");
  if (asked && upconv::to_string(upconv::active_isa()) != asked) {
    std::printf("this machine has no %s; it runs %s\n", asked, upconv::to_string(upconv::active_isa()).c_str());
    return 77;
  }
  return RUN_ALL_TESTS();
}
