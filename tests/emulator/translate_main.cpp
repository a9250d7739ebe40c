// upconv_emulate FILE.cu OUT.cpp: a .cu text as C++ for the CPU (translate.hpp). Compile what comes out with
//   g++ -std=c++17 -O1 -include tests/emulator/cuda.hpp OUT.cpp -l upconv_emulator
#include <fstream>
#include <iostream>
#include <iterator>

#include "emulator/translate.hpp"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: upconv_emulate FILE.cu OUT.cpp\n";
    return 2;
  }
  std::ifstream in(argv[1]);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::ofstream out(argv[2]);
  out << emulator::translate(text, argv[1]);
  if (!in || !out.flush()) {
    std::cerr << "upconv_emulate: cannot read " << argv[1] << " or write " << argv[2] << "\n";
    return 1;
  }
  return 0;
}
