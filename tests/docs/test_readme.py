"""The README's Python runs, and its C++ compiles, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return code


def test_python_usage():
    names: dict = {}
    exec(block("python"), names)
    with torch.no_grad():
        x = torch.randn(2, 64, 9, 7)
        torch.testing.assert_close(names["fast"](x), names["model"](x))
    assert names["y"].shape == (8, 32, 128, 128)


def test_cpp_usage_compiles():
    main = f"#include <cstdio>\n#include <upconv/plan.hpp>\nint main() {{\n{block('cpp')}}}\n"
    done = subprocess.run(
        [os.environ.get("CXX", "c++"), "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
         "-I", str(ROOT / "include"), "-x", "c++", "-"],
        input=main, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
