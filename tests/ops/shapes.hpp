// Reads tests/shapes/*.txt: one named problem a line, "id problem # title".
#pragma once

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "upconv/problem.hpp"

namespace upconv::test {

struct Row {
  std::string id;
  Problem problem;
};

inline std::vector<Row> read_shapes(const std::string& file) {
  std::ifstream in(std::string(UPCONV_SHAPES) + "/" + file);
  if (!in) throw std::runtime_error("cannot read " + file);
  std::vector<Row> rows;
  for (std::string line; std::getline(in, line);) {
    line.erase(std::min(line.find('#'), line.size()));
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (line.empty()) continue;
    const std::size_t space = line.find(' ');
    const auto problem = parse_problem(line.substr(std::min(space, line.size())));
    const Status status = problem.ok() ? validate(*problem) : problem.status();
    if (!status.ok()) throw std::runtime_error(file + ": " + line + ": " + status.message());
    rows.push_back({line.substr(0, space), *problem});
  }
  return rows;
}

}  // namespace upconv::test
