#!/usr/bin/env bash
# Builds the source archive and the wheel into a folder (default dist), with the environment's own torch headers
# and nothing downloaded. Called by `make wheel`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:-dist}
"${UPCONV_VENV:-.venv}/bin/python" -m build --no-isolation --outdir "$out" .
