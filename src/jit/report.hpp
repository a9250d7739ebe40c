// What run-time compilation found on this machine, for `upconv doctor`.
#pragma once

#include <string>
#include <vector>

namespace upconv::jit {

struct Finding {
  std::string name, value;
};

struct Report {
  std::vector<Finding> findings;  ///< In the order to print them.
  std::string obstacle;           ///< Why kernels cannot run here; empty when they can.
};

Report report();

}  // namespace upconv::jit
