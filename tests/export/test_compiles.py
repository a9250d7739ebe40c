"""Exported sources compile: kernels and launches with nvcc and with every NVRTC that is there, the torch glue against
torch's headers.

Every file of examples/exported and a few kinds more; UPCONV_EXPORT_ALL=1: NVRTC for both architectures of each.
The NVRTC of CUDA 11.8 and 12.1 are where tools/setup_python.sh puts them; UPCONV_TEST_NVRTCS names more, separated by
colons.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from emulation import ROOT, load
from problems import write

from upconv.export import export
from upconv.export._kernels import text_of

ALL = os.environ.get("UPCONV_EXPORT_ALL") == "1"
EXAMPLES = sorted((ROOT / "examples" / "exported").glob("*.py"))
NVCC = shutil.which("nvcc")
SM_80, SM_90 = ("80", 0), ("90a", 1)


def exported(name: str, folder: Path):
    path = folder / f"{name.replace('/', '_')}_new.py"
    path.write_text(export(write(name, folder)))
    return load(path)


def nvcc(module, architecture: str, hopper: int, folder: Path) -> None:
    source = folder / "source.cu"
    source.write_text(module.kernel_source())
    defined = [f"-DUPCONV_HOPPER={hopper}", f"-DUPCONV_BASE={1 - hopper}"]
    code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    command = [NVCC, "-std=c++17", "--expt-relaxed-constexpr", code, *defined, "-c", source, "-o", folder / "source.o"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:4000]


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
@pytest.mark.parametrize(
    "name, target", [("few_3d", SM_80), ("strided_1d", SM_90)], ids=["few_3d-sm_80", "strided_1d-sm_90a"]
)
def test_nvcc(name, target, tmp_path):
    nvcc(exported(name, tmp_path), *target, tmp_path)


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
@pytest.mark.parametrize("target", [SM_80, SM_90], ids=["sm_80", "sm_90a"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_nvcc_of_the_examples(path, target, tmp_path):
    nvcc(load(path), *target, tmp_path)


def nvrtc_libraries() -> list[Path]:
    folders = [Path(p) for p in (*sys.path, f"{sys.prefix}/nvrtc") if p]  # the last: tools/setup_python.sh
    names = (
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.11.2",
    )
    found = [f / n for f in folders for n in names if (f / n).is_file()]
    return found + [Path(p) for p in os.environ.get("UPCONV_TEST_NVRTCS", "").split(":") if p]


class Nvrtc:
    """One NVRTC, as far as compiling goes."""

    def __init__(self, path: Path):
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))
        self.library = ctypes.CDLL(str(path))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def compile(self, text: str, options: list[str]) -> str:
        """The log; empty when the text compiles."""
        program = ctypes.c_void_p()
        assert self.library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0
        given = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
        uselocale = ctypes.CDLL(None).uselocale
        uselocale.argtypes, uselocale.restype = [ctypes.c_void_p], ctypes.c_void_p
        locale = uselocale(None)  # that of CUDA 12.1 leaves its own to the thread
        failed = self.library.nvrtcCompileProgram(program, len(options), given)
        uselocale(locale)
        size = ctypes.c_size_t()
        self.library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.library.nvrtcGetProgramLog(program, log)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return (log.value.decode() or "it failed and says nothing") if failed else ""


@pytest.mark.skipif(not nvrtc_libraries(), reason="there is no NVRTC")
@pytest.mark.parametrize("path", [None, *EXAMPLES], ids=lambda p: p.stem if p else "strided_1d")
@pytest.mark.parametrize("library", nvrtc_libraries(), ids=lambda p: p.name)
def test_nvrtc(library, path, tmp_path):
    """The kernels without the host's part; sm_90a where the toolkit knows it, with UPCONV_EXPORT_ALL=1 sm_80 too."""
    nvrtc = Nvrtc(library)
    module = load(path) if path else exported("strided_1d", tmp_path)
    kernels = module.kernel_source().split("// launch/")[0]
    assert "__global__" in kernels
    own = SM_90 if nvrtc.version >= (12, 0) else ("90", 0)
    for architecture, hopper in (SM_80, own) if ALL else (own,):
        log = nvrtc.compile(kernels, [f"--gpu-architecture=sm_{architecture}", "--std=c++17", "-default-device",
                                      f"-DUPCONV_HOPPER={hopper}", f"-DUPCONV_BASE={1 - hopper}"])  # fmt: skip
        assert not log, f"NVRTC {nvrtc.version} for sm_{architecture}: {log[:3000]}"


def test_tensor_maps_against_the_runtimes_header(tmp_path):
    """What a file holds whose kernels copy in bulk: compiled with nvcc where there is one, else with the stubs."""
    kernel_source = torch.ops.upconv._kernel_source
    names = ("arguments/strides.cuh", "launch/sizes.hpp", "launch/ordered_sum.hpp", "launch/bias_sum.hpp",
             "arguments/tensor_map.cuh", "launch/tensor_map.hpp")  # fmt: skip
    headers = "".join(re.sub(r'#include "[^"]+"|#pragma once', "", kernel_source(name)) for name in names)
    source = tmp_path / "source.cu"
    source.write_text(headers + text_of("launch.cu") + text_of("tensor_map.cu"))
    stubs = ["g++", "-x", "c++", "-std=c++17", "-fsyntax-only", "-Wall", "-I", ROOT / "tests/export/stubs", source]
    with_nvcc = [NVCC, "-std=c++17", "-arch=sm_90", "-c", source, "-o", tmp_path / "source.o"]
    for command in [stubs, with_nvcc] if NVCC else [stubs]:
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr[:4000]


def test_glue_against_torchs_headers(tmp_path):
    """Everything but the kernels, whose names are declared as stubs, by the C++ compiler of the machine."""
    module = exported("L2/72", tmp_path)
    host = module.kernel_source().split("// launch/", 1)[1]
    kernels = set(re.findall(r"address\((\w+)::(\w+)\)", host))
    assert {k for _, k in kernels} >= {
        "closing_parts",
        "closing_norm",
        "closing_pull",
        "closing_total",
        "closing_running",
    }
    stubs = "".join(f"namespace {space} {{ void {name}(); }}\n" for space, name in sorted(kernels))
    source = tmp_path / "glue.cpp"
    source.write_text(f"{module.PROTOTYPES}\n{module.DEFINITIONS}\n{stubs}\n// launch/{host}\n{module.GLUE}")
    include = Path(torch.__file__).parent / "include"
    command = ["g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Werror=return-type", "-I", ROOT / "tests/export/stubs",
               "-I", include, "-I", include / "torch/csrc/api/include", source]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:4000]
    assert re.findall(r"\b(upconv_\w+)\(", module.PROTOTYPES) == module.FUNCTIONS
