#!/usr/bin/env bash
# Prepares a clone for work: system packages, a private Python environment, the build. Safe to repeat.
#   tools/setup.sh environment   the Python environment and the tools of lint and wheel
#   tools/setup.sh build         the same, and the library with its PyTorch binding
#   tools/setup.sh test          the same, and the C++ tests
# Called by the Makefile; honours PYTHON, UPCONV_VENV, UPCONV_BUILD (see there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level=${1:-build}
case $level in
  environment | build | test) ;;
  *)
    echo "usage: tools/setup.sh environment|build|test" >&2
    exit 2
    ;;
esac

tools/setup_system.sh "$level"
tools/setup_python.sh
if [ "$level" != environment ]; then tools/build.sh "$level"; fi
