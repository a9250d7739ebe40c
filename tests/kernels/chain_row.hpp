// A line of tests/shapes/chains.txt: a chain of KernelBench level 2 as the operator takes it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "steps.hpp"
#include "upconv/chain.hpp"

namespace upconv::test {

struct ChainRow {
  std::string id;
  Problem problem;
  Chain chain;
  std::vector<OperandTensor> operands;  ///< Dense, without data.
};

inline ChainRow parse_chain(const std::string& line) {
  ChainRow row;
  std::istringstream parts(line);
  std::string problem, numbers, sizes, word;
  std::getline(parts, row.id, '|');
  std::getline(parts, problem, '|');
  std::getline(parts, numbers, '|');
  std::getline(parts, sizes, '|');
  row.id.erase(row.id.find_last_not_of(' ') + 1);
  const auto parsed = parse_problem(problem);
  if (!parsed.ok()) {
    std::fprintf(stderr, "%s: %s\n", row.id.c_str(), parsed.status().message().c_str());
    std::exit(2);
  }
  row.problem = *parsed;
  std::vector<double> list;
  for (std::istringstream words(numbers); words >> word;) list.push_back(std::atof(word.c_str()));
  row.chain = binding::make_chain(list);
  for (std::istringstream words(sizes); words >> word;) {
    OperandTensor o;
    std::istringstream dims(word);
    std::string n;
    for (int d = 0; d < 5 && std::getline(dims, n, 'x'); ++d) o.size[d] = std::atoll(n.c_str());
    std::int64_t stride = 1;
    for (int d = 4; d >= 0; --d) o.stride[d] = stride, stride *= o.size[d];
    row.operands.push_back(o);
  }
  return row;
}

}  // namespace upconv::test
