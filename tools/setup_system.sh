#!/usr/bin/env bash
# Installs the system packages that are missing, with apt-get, and nothing when none is.
#   tools/setup_system.sh environment|build|test
# Called by setup.sh. CMake and Ninja are never asked of the system: setup_python.sh puts them into the
# environment when the system has none that is new enough.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level=${1:-build}
python=${PYTHON:-python3}
venv=${UPCONV_VENV:-.venv}

missing=()

have_compiler() {
  local cxx
  for cxx in ${CXX:-c++ g++ clang++}; do
    if command -v "$cxx" >/dev/null && echo '#include <span>' | "$cxx" -std=c++20 -fsyntax-only -x c++ - 2>/dev/null; then
      return 0
    fi
  done
  return 1
}

# have_python_headers INTERPRETER: what torch.compile needs to build its own kernels (the library does not).
have_python_headers() {
  "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

have_gtest() {
  echo '#include <gtest/gtest.h>' | "${CXX:-c++}" -std=c++20 -fsyntax-only -x c++ - 2>/dev/null
}

interpreter="$venv/bin/python"
if [ ! -x "$interpreter" ]; then
  interpreter=$python
  if ! command -v "$python" >/dev/null; then
    missing+=(python3 python3-venv)
  elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian keeps ensurepip apart from the interpreter, one package a version.
    missing+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
  fi
fi
if [ "$level" != environment ]; then
  have_compiler || missing+=(g++)
fi
if [ "$level" = test ]; then
  have_gtest || missing+=(libgtest-dev)
  have_python_headers "$interpreter" ||
    missing+=("python$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3)-dev")
  command -v pkg-config >/dev/null || missing+=(pkgconf)
fi

if [ ${#missing[@]} -eq 0 ]; then
  echo "==> system packages: all there"
  exit 0
fi

echo "==> system packages: installing ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "setup: this system lacks what Debian calls ${missing[*]}, and has no apt-get; install them with its own tool, then run this again" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: these packages are missing and need root (there is no sudo): ask for: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
  if [ ! -t 0 ]; then as_root+=(-n); fi
fi
export DEBIAN_FRONTEND=noninteractive
if ! "${as_root[@]}" apt-get update -qq ||
  ! "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; then
  echo "setup: could not install them; as root, run: apt-get install ${missing[*]}" >&2
  exit 1
fi
