#!/usr/bin/env bash
# Checks formatting and common mistakes of every tracked or new source; --fix rewrites what can be rewritten.
# `make lint`, `make format` and CI (through `make test`) run this same script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${UPCONV_VENV:-.venv}
if [ -d "$venv/bin" ]; then PATH="$(cd "$venv" && pwd)/bin:$PATH"; fi

fix=false
case ${1:-} in
  '') ;;
  --fix) fix=true ;;
  *)
    echo "usage: tools/lint.sh [--fix]" >&2
    exit 2
    ;;
esac

# Files git knows or would add; without git (a source archive) whatever lies in the source folders.
files() {
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -- "$@" | while IFS= read -r file; do
      if [ -f "$file" ]; then echo "$file"; fi
    done
  else
    local pattern
    for pattern in "$@"; do
      find include src bindings tests examples bench tools python -type f -name "$pattern" 2>/dev/null
    done
  fi
}

status=0
check() { # check NAME COMMAND...
  local name=$1
  shift
  if "$@"; then echo "lint: ok      $name"; else
    echo "lint: FAILED  $name"
    status=1
  fi
}

mapfile -t cpp < <(files '*.cpp' '*.hpp' '*.cu' '*.cuh')
mapfile -t shell < <(files '*.sh' '.ci/run')

if $fix; then
  clang-format -i "${cpp[@]}"
  ruff check --fix --quiet . || true
  ruff format .
fi
check "clang-format (${#cpp[@]} files; make format mends it)" clang-format --dry-run --Werror "${cpp[@]}"
check "ruff check" ruff check --quiet --output-format=concise .
check "ruff format (make format mends it)" ruff format --check --output-format=concise .
if command -v shellcheck >/dev/null; then
  check "shellcheck (${#shell[@]} files)" shellcheck "${shell[@]}"
else
  check "shell syntax (${#shell[@]} files; shellcheck is not installed)" bash -n "${shell[@]}"
fi
exit $status
