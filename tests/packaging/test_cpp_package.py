"""The C++ library as a user gets it: installed, found by CMake and by pkg-config, static and shared.

Each way builds examples/cpp/embed.cpp outside the source tree and compares the numbers that it prints.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The example feeds ones into weights of 0.5 and a bias of 0.25. Every input meets every tap of a kernel that is not
# cut by padding: 2*3*4*4*5*... products a channel pair, all inside the output when padding is 0.
PROBLEM = "2d n2 c6 o4 i5x7 k3x2 s2x3 g2 b"
OUTPUTS = 2 * 4 * 11 * 20
SUM = 0.5 * (2 * 6 * (4 // 2) * 5 * 7 * 3 * 2) + 0.25 * OUTPUTS


def run(*command, **options) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def install(tmp_path_factory):
    """install("static" or "shared") -> a prefix, made once."""
    return functools.cache(functools.partial(build_and_install, tmp_path_factory))


@pytest.fixture(params=["static", "shared"])
def prefix(request, install) -> Path:
    return install(request.param)


def build_and_install(tmp_path_factory, kind: str) -> Path:
    """An installed library, moved afterwards: nothing in it may remember where it was made.

    The static one comes out of the checkout's own build when there is one, which saves compiling it again.
    """
    folder = tmp_path_factory.mktemp(f"upconv-{kind}")
    build = ROOT / os.environ.get("UPCONV_BUILD", "build")
    if kind == "shared" or not (build / "build.ninja").exists():
        build = folder / "build"
        shared = "ON" if kind == "shared" else "OFF"
        run("cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DUPCONV_TORCH=OFF",
            f"-DBUILD_SHARED_LIBS={shared}", "-DCMAKE_COMPILE_WARNING_AS_ERROR=ON")  # fmt: skip
    run("cmake", "--build", build, "--target", "upconv")
    run("cmake", "--install", build, "--prefix", folder / "first")
    (folder / "first").rename(folder / "moved")
    shutil.rmtree(folder / "build", ignore_errors=True)
    return folder / "moved"


def library_folder(prefix: Path) -> Path:
    return next(prefix.glob("lib*/**/libupconv.*")).parent


def check_output(output: str) -> None:
    version = re.search(r'UPCONV_VERSION "(.+)"', (ROOT / "include/upconv/version.hpp").read_text()).group(1)
    assert output.startswith(f"upconv {version}\n")
    assert "forward: " in output, "explain() names the candidate of each pass"
    match = re.search(r"outputs (\d+), sum ([\d.]+), first", output)
    assert int(match.group(1)) == OUTPUTS
    assert float(match.group(2)) == pytest.approx(SUM)


def test_cmake_find_package(prefix, tmp_path):
    run("cmake", "-S", ROOT / "examples" / "cpp", "-B", tmp_path, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")  # fmt: skip
    run("cmake", "--build", tmp_path)
    check_output(run(tmp_path / "embed", PROBLEM, cwd=tmp_path))


def test_pkg_config(prefix, tmp_path):
    compiler = os.environ.get("CXX", "c++")
    environment = os.environ | {"PKG_CONFIG_PATH": str(library_folder(prefix) / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "upconv", env=environment).split()
    run(compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", ROOT / "examples/cpp/embed.cpp", *flags,
        "-o", tmp_path / "embed")  # fmt: skip
    loader = os.environ | {"LD_LIBRARY_PATH": str(library_folder(prefix))}
    check_output(run(tmp_path / "embed", PROBLEM, env=loader))


def test_a_bad_problem_is_a_sentence(prefix, tmp_path):
    run("cmake", "-S", ROOT / "examples" / "cpp", "-B", tmp_path, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    done = subprocess.run([tmp_path / "embed", "2d c3 o4 i8 k3 g2"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in_channels (3) must be divisible by groups (2)" in done.stderr


@pytest.mark.parametrize("prefix", ["shared"], indirect=True)
def test_a_shared_library_exports_the_public_api_only(prefix):
    listing = run("nm", "--dynamic", "--defined-only", "--demangle", library_folder(prefix) / "libupconv.so")
    names = [line.split(maxsplit=2)[2] for line in listing.splitlines()]
    assert any("upconv::Plan::create" in name for name in names)
    internals = ("upconv::cpu::", "upconv::base::", "upconv::v3::", "upconv::v4::", "make_phases", "make_geometry")
    allowed = "upconv::cpu::fma_peak"  # not in an installed header; the torch binding calls it for `upconv bench`
    assert [n for n in names if any(word in n for word in internals) and not n.startswith(allowed)] == []


def test_only_the_library_is_installed(prefix):
    files = {str(f.relative_to(prefix)) for f in prefix.rglob("*") if f.is_file()}
    assert {f.partition("/")[0] for f in files} <= {"include", "lib", "lib64", "share"}
    assert "include/upconv/plan.hpp" in files
    assert not [f for f in files if "torch" in f or "gtest" in f or f.endswith((".py", ".cpp"))]


def test_headers_compile_alone(prefix, tmp_path):
    compiler = os.environ.get("CXX", "c++")
    headers = sorted((prefix / "include" / "upconv").glob("*.hpp"))
    assert {"plan.hpp", "problem.hpp", "epilogue.hpp", "status.hpp", "version.hpp"} <= {h.name for h in headers}
    for header in headers:
        run(compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++",
            "-include", header, "/dev/null", f"-I{prefix / 'include'}")  # fmt: skip
