#!/usr/bin/env bash
# Writes tests/golden anew: which candidate runs each pass of the named shapes, on models of an A100 and an H200.
# Run it when a choice was changed on purpose, and read the diff. Needs a build with the tests (UPCONV_BUILD).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=${UPCONV_BUILD:-build}
cmake --build "$build" --target plan_choices
mkdir -p tests/golden
for architecture in 80 90; do
  "$build/tests/plan_choices" "$architecture" >"tests/golden/plans-sm_$architecture.txt"
done
git --no-pager diff --stat -- tests/golden || true
