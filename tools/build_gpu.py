#!/usr/bin/env python3
"""Builds the library, its PyTorch operators and the GPU test driver with this machine's own Python, torch and compiler.

For a machine with a GPU and no network: nothing is downloaded or installed. CMake and Ninja do the work where both are
there; otherwise g++ is driven directly over the source lists that CMakeLists.txt has, in parallel. Called by
`make gpu-test` and `make gpu-bench`; prints the path of the operators' library last.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("UPCONV_GPU_BUILD", ROOT / "build-gpu"))
CXX = os.environ.get("CXX", "g++")
CMAKE_AT_LEAST = (3, 25)


def jobs() -> int:
    return len(os.sched_getaffinity(0))


def tool(name: str) -> str | None:
    """A program on the PATH or beside this interpreter."""
    beside = Path(sys.executable).parent / name
    return shutil.which(name) or (str(beside) if beside.is_file() else None)


def cmake_version(cmake: str) -> tuple[int, ...]:
    try:
        text = subprocess.run([cmake, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return ()
    return tuple(map(int, re.findall(r"\d+", text.partition("\n")[0])[:2]))


def with_cmake(cmake: str, ninja: str) -> None:
    options = [
        f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DCMAKE_BUILD_TYPE=Release", "-DUPCONV_TORCH=ON", "-DUPCONV_TESTS=OFF",
        "-DUPCONV_GPU_TESTS=ON", "-DUPCONV_INSTALL=OFF", f"-DPython_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    subprocess.run([cmake, "-S", ROOT, "-B", BUILD, "-G", "Ninja", "--log-level=WARNING", *options], check=True)
    subprocess.run([cmake, "--build", BUILD, "--parallel", str(jobs())], check=True)


def listed(text: str, command: str) -> list[str]:
    """The source files of one CMake command."""
    found = re.search(command + r"([^)]*)\)", text)
    if not found:
        raise SystemExit(f"tools/build_gpu.py: no {command} in CMakeLists.txt")
    return re.findall(r"[\w/.-]+\.cpp", found[1])


def embed(out: Path) -> None:
    """What cmake/UpconvEmbed.cmake writes: kernels/ as text."""
    parts = ['#include "jit/sources.hpp"\nnamespace upconv::jit {\n']
    table = []
    for file in sorted((ROOT / "kernels").rglob("*.cuh")):
        name = file.relative_to(ROOT / "kernels").as_posix()
        symbol = re.sub(r"\W", "_", name)
        parts.append(f'static const char {symbol}[] = R"upconv_text({file.read_text()})upconv_text";\n')
        table.append(f'{{"{name}", {{{symbol}, sizeof {symbol} - 1}}}},')
    parts.append("std::span<const Source> sources() {\n static const Source all[] = {" + "\n".join(table))
    parts.append("};\n return all;\n}\n}  // namespace upconv::jit\n")
    out.write_text("".join(parts))


def directly() -> None:
    """One g++ a source file; a file is compiled again when it or any header is newer than its object."""
    top = (ROOT / "CMakeLists.txt").read_text()
    binding = (ROOT / "bindings/torch/CMakeLists.txt").read_text()
    torch = subprocess.run([sys.executable, ROOT / "tools/find_torch.py"], capture_output=True, text=True, check=True)
    torch = Path(torch.stdout.splitlines()[0])
    BUILD.mkdir(parents=True, exist_ok=True)
    embed(BUILD / "kernel_sources.cpp")
    base = [CXX, "-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden",
            "-fno-math-errno", f"-I{ROOT}/include", f"-I{ROOT}/src", "-pthread"]  # fmt: skip
    work: list[tuple[Path, Path, list[str]]] = []

    def add(source: Path, name: str, *flags: str) -> Path:
        target = BUILD / "objects" / f"{name}.o"
        work.append((source, target, [*base, *flags]))
        return target

    library = [add(BUILD / "kernel_sources.cpp", "kernel_sources")]
    library += [add(ROOT / s, s.replace("/", "_")) for s in listed(top, r"add_library\(upconv\n") if "$" not in s
                and (ROOT / s).is_file()]  # fmt: skip
    x86 = os.uname().machine == "x86_64"
    for isa, flags in {
        "base": ("-march=x86-64-v2",) if x86 else (), "v3": ("-march=x86-64-v3",),
        "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    }.items():  # fmt: skip
        for s in listed(top, r"upconv_isa_sources\(\n") if x86 or isa == "base" else ():
            name = f"{isa}_{s.replace('/', '_')}"
            library.append(add(ROOT / s, name, f"-DUPCONV_ISA={isa}", "-ffp-contract=fast", *flags))
    operators = [
        add(ROOT / "bindings/torch" / s, f"torch_{s}", f"-isystem{torch}/include", f"-I{ROOT}/bindings/torch",
            "-DTORCH_TARGET_VERSION=0x020a000000000000")
        for s in listed(binding, r"add_library\(upconv_torch MODULE")
    ]  # fmt: skip
    driver = [add(ROOT / "tests/gpu/sanitize.cpp", "sanitize")]

    headers = [
        f for d in ("include", "src", "bindings", "kernels") for f in (ROOT / d).rglob("*") if f.suffix == ".hpp"
    ]
    newest = max(f.stat().st_mtime for f in headers)

    def compile_one(item: tuple[Path, Path, list[str]]) -> None:
        source, target, command = item
        if target.exists() and target.stat().st_mtime > max(newest, source.stat().st_mtime):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*command, "-c", source, "-o", target], check=True)

    with ThreadPoolExecutor(jobs()) as pool:
        list(pool.map(compile_one, work))
    module = BUILD / "bindings/torch/_upconv_torch.so"
    module.parent.mkdir(parents=True, exist_ok=True)
    torch_library = torch / "lib/libtorch_cpu.so"
    subprocess.run([CXX, "-shared", "-pthread", *operators, *library, torch_library, "-ldl", "-o", module], check=True)
    subprocess.run([CXX, "-pthread", *driver, *library, "-ldl", "-o", BUILD / "upconv_sanitize"], check=True)


def main() -> int:
    start = time.monotonic()
    cmake, ninja = tool("cmake"), tool("ninja")
    use_cmake = cmake and ninja and cmake_version(cmake) >= CMAKE_AT_LEAST and "--direct" not in sys.argv
    print(f"==> building {BUILD} with {'CMake and Ninja' if use_cmake else CXX}, {jobs()} at a time", flush=True)
    try:
        if use_cmake:
            with_cmake(cmake, ninja)
        else:
            directly()
    except subprocess.CalledProcessError as error:
        print(f"build failed: {' '.join(map(str, error.cmd))[:400]} ended with {error.returncode}", file=sys.stderr)
        return 1
    print(f"==> built in {time.monotonic() - start:.0f} s")
    print(BUILD / "bindings/torch/_upconv_torch.so")
    return 0


if __name__ == "__main__":
    sys.exit(main())
