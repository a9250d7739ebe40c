"""Compiling a kernel leaves the thread's locale as it was, whatever NVRTC does to it (that of CUDA 12.1 changes it)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NVRTC = Path(sys.prefix) / "nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"  # tools/setup_python.sh
CODE = """
import locale
from upconv import _ops
before, problem = locale.nl_langinfo(locale.CODESET), "2d n1 c8 o8 i8x8 k3 f32"
name = _ops.alternatives(problem, "forward", "sm_80", []).splitlines()[0].split("\\t")[0]
_ops.prepare_alternative(problem, "forward", "sm_80", name, [])
print(before == locale.nl_langinfo(locale.CODESET), before)
"""


@pytest.mark.skipif(not NVRTC.exists(), reason="there is no NVRTC of CUDA 12.1")
def test_compiling_keeps_the_locale(tmp_path):
    env = {**os.environ, "UPCONV_NVRTC": str(NVRTC), "UPCONV_CACHE_DIR": str(tmp_path), "UPCONV_QUIET": "1",
           "LC_ALL": "C.UTF-8"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["True", "UTF-8"]
