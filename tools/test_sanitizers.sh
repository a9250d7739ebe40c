#!/usr/bin/env bash
# Builds the C++ library and its tests with AddressSanitizer and UndefinedBehaviorSanitizer in a build folder of
# their own, and runs them there. The argument is the JUnit file to write. Called by run_tests.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

report=${1:?usage: tools/test_sanitizers.sh REPORT.xml}
build=${UPCONV_BUILD:-build}-asan

cmake -S . -B "$build" -G Ninja --log-level=NOTICE -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 \
  -DUPCONV_SANITIZE=ON -DUPCONV_TESTS=ON -DUPCONV_TORCH=OFF
cmake --build "$build" ${UPCONV_JOBS:+--parallel "$UPCONV_JOBS"}
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
exec ctest --test-dir "$build" --output-on-failure --progress --no-tests=error -j "$(nproc)" --output-junit "$report"
