// A libcuda of the tests: no GPU, several devices, remembers what it was asked. The library defines `fake_cuda`;
// tests find it with fake_driver() of environment.hpp.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

struct FakeCuda {
  int device_count = 4;
  std::array<int, 4> major{9, 9, 8, 12}, minor{0, 0, 0, 0};

  std::atomic<int> modules_loaded{0}, functions_found{0}, launches{0}, attributes_set{0};
  std::atomic<int> context_of_load{-1};  ///< Device whose context was current at the last module load.
  std::atomic<int> mode_at_load{-1};     ///< Capture mode of the thread at the last module load.
  std::atomic<bool> loaded_ptx{false};
  std::atomic<int> shared_limit{0};  ///< The last maximum of dynamic shared memory that was set.

  void* capturing = nullptr;       ///< The stream that is being captured.
  int refuse_load = 0;             ///< Error that the next module loads give.
  int refuse_launch = 0;           ///< Error that the next launches give.
  std::size_t argument_bytes = 0;  ///< What each argument of the next launches is made of; at most 16 arguments.
  std::size_t argument_count = 0;

  // Of the last launch.
  std::array<unsigned, 7> grid_block_shared{};
  std::array<unsigned, 3> cluster{};
  bool overlaps = false;  ///< It may begin before the launch before it has ended.
  void* stream = nullptr;
  int device = -1;
  std::array<std::array<unsigned char, 64>, 16> arguments{};
};
