#!/usr/bin/env bash
# Creates the private environment (UPCONV_VENV, default .venv) and fills it: torch unless one that is new
# enough is there, the packages that pyproject.toml names, CMake and Ninja if the system has none, and this
# checkout's own Python package in editable form. Called by setup.sh; a second run takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
venv=${UPCONV_VENV:-.venv}
torch_requirement=${UPCONV_TORCH_REQUIREMENT:-torch==2.13.0}
stamp="$venv/upconv-setup.sha256"

# What the environment was made from: these files, the interpreter and this folder.
key=$({
  cat pyproject.toml tools/setup_python.sh tools/find_torch.py
  echo "$torch_requirement ${PYTHON:-} $PWD"
} | sha256sum | cut -d ' ' -f 1)
if [ -x "$venv/bin/upconv" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && "$venv/bin/python" -c 'import sys'; then
  echo "==> Python environment: $venv is up to date"
  exit 0
fi

if [ ! -x "$venv/bin/python" ]; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "setup: $python is $("$python" --version), and upconv needs Python 3.10 or later; name one with PYTHON=/path/to/python" >&2
    exit 1
  }
  echo "==> Python environment: creating $venv with $("$python" --version)"
  "$python" -m venv "$venv"
  # A torch that the given interpreter has already is used, not installed a second time.
  if found=$(tools/find_torch.py --python "$python" --minimum 2.10 2>/dev/null); then
    echo "    keeping torch $(tail -n 1 <<<"$found") from $(head -n 1 <<<"$found")"
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    dirname "$(head -n 1 <<<"$found")" >"$site/upconv-torch-from-outside.pth"
  fi
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null # an interrupted first run
if found=$("$venv/bin/python" tools/find_torch.py --python "$venv/bin/python" --minimum 2.10 2>/dev/null); then
  echo "==> torch $(tail -n 1 <<<"$found") is there"
else
  echo "==> installing $torch_requirement"
  "${pip[@]}" install "$torch_requirement"
fi

tools=(scikit-build-core)
new_enough() { # new_enough TOOL MINIMUM: the system's TOOL is at least MINIMUM
  local version
  version=$("$1" --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1) || return 1
  [ "$(printf '%s\n%s\n' "$2" "$version" | sort -V | head -n 1)" = "$2" ]
}
new_enough cmake 3.25 || tools+=('cmake>=3.25')
new_enough ninja 1.10 || tools+=(ninja)
echo "==> installing ${tools[*]}"
"${pip[@]}" install --quiet "${tools[@]}"

# Editable and without a C++ build: modules are read from python/, the built library is put beside them by build.sh.
echo "==> installing upconv's dependencies (numpy, rich, matplotlib; pytest, hypothesis, ruff, clang-format)"
"${pip[@]}" install --no-build-isolation --config-settings=wheel.cmake=false \
  --config-settings=editable.mode=inplace --editable '.[dev]'
# The compiler of the CUDA kernels, so that tests can compile them without a GPU; a torch with CUDA brings its own.
find_nvrtc='import pathlib, sys
sys.exit(not any(True for f in sys.path for _ in pathlib.Path(f).glob("nvidia/*/lib/libnvrtc.so.1[23]")))'
if ! "$venv/bin/python" -c "$find_nvrtc" && [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
  echo "==> installing nvidia-cuda-nvrtc"
  "${pip[@]}" install --quiet nvidia-cuda-nvrtc==13.0.88
fi
# The oldest ones that exported files are for, aside: upconv itself does not look there.
if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
  echo "==> installing the NVRTC of CUDA 11.8 and 12.1, for the tests of exported files"
  "${pip[@]}" install --quiet --no-deps --upgrade --target "$venv/nvrtc" nvidia-cuda-nvrtc-cu11==11.8.89 \
    nvidia-cuda-nvrtc-cu12==12.1.105 || echo "    not to be had: those tests do without"
fi
echo "$key" >"$stamp"
