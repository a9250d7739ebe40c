# Finding the operator library, its version and its explanations.
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import upconv
from upconv import _library


def run(code, **environment):
    package = str(Path(upconv.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": package, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_missing_library_is_one_sentence(tmp_path):
    result = run("import upconv", UPCONV_LIBRARY=str(tmp_path / "nowhere.so"))
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: upconv: the operator library was not found") and "nowhere.so" in last


def test_broken_library_names_the_file(tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_text("no library")
    last = run("import upconv", UPCONV_LIBRARY=str(broken)).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: upconv:") and "broken.so" in last


def test_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ImportError, match=r"upconv needs torch >= 2\.10, but torch 2\.9\.1"):
        _library.load()


def test_version_is_the_headers():
    header = Path(__file__).resolve().parents[2] / "include" / "upconv" / "version.hpp"
    assert f'#define UPCONV_VERSION "{upconv.__version__}"' in header.read_text()


def test_explain_names_every_pass():
    text = upconv.explain("3d n2 c8 o16 i4x5x6 k3x3x3 s2 p1 g4 b bf16")
    assert text.startswith("3d n2 c8 o16 i4x5x6 k3x3x3 s2x2x2 p1x1x1 op0x0x0 d1x1x1 g4 b bf16\n")
    for word in ("forward:", "backward_input:", "backward_weight:", "backward_bias:", "output 7x9x11", "workspace"):
        assert word in text


def test_library_needs_neither_python_nor_unstable_torch_symbols():
    data = Path(_library.path).read_bytes()
    for symbol in (b"PyObject_", b"_ZN2at", b"_ZN3c10", b"_ZNK3c10"):
        assert symbol not in data, f"{symbol!r} ties the library to one Python or one torch"
