#!/usr/bin/env bash
# Configures and builds into UPCONV_BUILD (default build): the library and its PyTorch binding, for `test` the
# C++ tests too. Called by setup.sh; Ninja builds only what changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level=${1:-build}
venv=${UPCONV_VENV:-.venv}
build=${UPCONV_BUILD:-build}
PATH="$(cd "$venv" && pwd)/bin:$PATH"

options=(-DCMAKE_BUILD_TYPE="${UPCONV_BUILD_TYPE:-Release}" -DUPCONV_TORCH=ON -DPython_EXECUTABLE="$(command -v python)")
if [ "$level" = test ]; then options+=(-DUPCONV_TESTS=ON); fi

# The options, not CMake's cache alone, decide whether to configure again.
stamp="$build/upconv-options"
if [ ! -f "$build/build.ninja" ] || [ "$(cat "$stamp" 2>/dev/null)" != "${options[*]}" ]; then
  echo "==> configuring $build"
  cmake -S . -B "$build" -G Ninja --log-level=NOTICE "${options[@]}"
  echo "${options[*]}" >"$stamp"
fi
echo "==> building $build"
cmake --build "$build" ${UPCONV_JOBS:+--parallel "$UPCONV_JOBS"}
