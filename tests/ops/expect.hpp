// A trial as a GoogleTest assertion: EXPECT_TRUE(passes(trial)) prints the trial's own words.
#pragma once

#include <gtest/gtest.h>

#include "ops/trial.hpp"

namespace upconv::test {

inline testing::AssertionResult passes(Trial trial) {
  const std::string wrong = trial.run_all();
  return wrong.empty() ? testing::AssertionSuccess() : testing::AssertionFailure() << wrong;
}

}  // namespace upconv::test
