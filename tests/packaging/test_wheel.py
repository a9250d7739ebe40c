"""The Python package as a user gets it: source archive, one wheel built from it, installed into a fresh environment.

The wheel is built as `pip wheel` does it, in an isolated build environment, which must not fetch a torch. The fresh
environment sees the torch of this one through a .pth file, so none is downloaded a second time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.search(r'UPCONV_VERSION "(.+)"', (ROOT / "include/upconv/version.hpp").read_text()).group(1)

# Nothing of this checkout or its settings may help what is tested.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("UPCONV_")}


def run(*command, **options) -> str:
    options = {"env": ENVIRONMENT} | options
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--wheel-dir", folder, sdist)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel installed; its bin folder. --no-index: its dependencies are there or it fails."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    outside = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    assert str(Path(torch.__file__).parents[1]) in outside
    (site / "torch-from-outside.pth").write_text("\n".join(outside) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-index")
    run(*pip, "--ignore-installed", "--no-deps", wheel)
    run(*pip, wheel)  # is there already; this looks whether everything it requires is
    return python.parent


def test_sdist_holds_the_sources_and_nothing_else(sdist):
    assert sdist.name == f"upconv-{VERSION}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("CMakeLists.txt", "LICENSE", "README.md", "Makefile", "PKG-INFO", "include/upconv/plan.hpp",
                 "src/plan/plan.cpp", "cmake/UpconvTorch.cmake", "tools/find_torch.py", "tools/setup.sh",
                 "examples/cpp/embed.cpp", "tests/packaging/test_wheel.py"):  # fmt: skip
        assert name in names
    foreign = re.compile(r"^(build|\.venv|out|dist|\.git|\.ci)/|\.(so|o|a|pyc|whl)$")
    assert [name for name in sorted(names) if foreign.search(name)] == []


def test_sdist_holds_every_tracked_file(sdist):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {name for name in run("git", "ls-files", cwd=ROOT).splitlines() if (ROOT / name).is_file()}
    missing = {name for name in tracked - names if not name.startswith(".ci/") and name != ".gitignore"}
    assert missing == set()


def test_one_wheel_for_every_python(wheel, tmp_path):
    assert re.fullmatch(rf"upconv-{re.escape(VERSION)}-py3-none-\w+\.whl", wheel.name)
    for python in ("3.10", "3.12", "3.14"):
        run(sys.executable, "-m", "pip", "download", "--no-index", "--no-deps", "--only-binary", ":all:",
            "--python-version", python, "--dest", tmp_path / python, wheel)  # fmt: skip


def test_wheel_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"upconv-{VERSION}.dist-info/METADATA").decode()
    assert [name for name in names if name.endswith(".so")] == ["upconv/_upconv_torch.so"]
    assert "upconv/nn.py" in names or "upconv/nn/__init__.py" in names
    assert any(name.startswith("upconv/examples/") for name in names), "upconv demo reads its models there"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names} == {"upconv", f"upconv-{VERSION}.dist-info"}
    assert not [name for name in names if name.endswith((".hpp", ".a", ".pyc"))]
    assert "Requires-Dist: torch>=2.10" in metadata
    assert "Requires-Python: >=3.10" in metadata


def test_the_library_uses_the_stable_abi_only(wheel, tmp_path):
    """No symbol of CPython and no C++ symbol of torch: that is what lets one file serve every version of both."""
    with zipfile.ZipFile(wheel) as archive:
        library = archive.extract("upconv/_upconv_torch.so", tmp_path)
    undefined = [line.split(maxsplit=1)[1] for line in run("nm", "-DC", "--undefined-only", library).splitlines()]
    assert [name for name in undefined if re.match(r"_?Py[A-Z_]|(at|c10|torch)::", name)] == []
    dynamic = run("readelf", "--dynamic", "--wide", library)
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic
    assert "python" not in dynamic


MODEL = """
    import os, torch, upconv, upconv.nn
    here = os.path.realpath(upconv.__file__)
    assert here.startswith(os.path.realpath(os.environ["FRESH"])), here
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1), torch.nn.GELU(),
        torch.nn.ConvTranspose2d(16, 3, 3, stride=2, padding=1, output_padding=1, groups=1))
    torch.manual_seed(0)
    mine = torch.nn.Sequential(
        upconv.nn.ConvTranspose2d(8, 16, 4, stride=2, padding=1), torch.nn.GELU(),
        upconv.nn.ConvTranspose2d(16, 3, 3, stride=2, padding=1, output_padding=1, groups=1))
    x = torch.randn(2, 8, 9, 11)
    results = []
    for net in (model, mine):
        leaf = x.clone().requires_grad_()
        y = net(leaf)
        y.square().mean().backward()
        results.append([y, leaf.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)
    print("agrees with torch", torch.__version__, "upconv", upconv.__version__)
"""


def test_a_model_runs_outside_the_source_tree(fresh, tmp_path):
    script = tmp_path / "model.py"
    script.write_text(textwrap.dedent(MODEL))
    said = run(fresh / "python", script, cwd=tmp_path, env=ENVIRONMENT | {"FRESH": str(fresh.parent)})
    assert f"upconv {VERSION}" in said


def test_the_command_line_is_installed(fresh, tmp_path):
    assert run(fresh / "upconv", "--version", cwd=tmp_path).strip() == f"upconv {VERSION}"
    assert "forward" in run(fresh / "upconv", "explain", "2d c8 o4 i16 k4 s2 p1", cwd=tmp_path)
    assert f"{VERSION} in {fresh.parent}" in run(fresh / "upconv", "doctor", cwd=tmp_path)


def test_import_needs_neither_matplotlib_nor_rich(fresh, tmp_path):
    code = "import sys, upconv; print([m for m in ('matplotlib', 'rich') if m in sys.modules])"
    assert run(fresh / "python", "-c", code, cwd=tmp_path).strip() == "[]"


def test_without_torch_the_build_says_so(tmp_path):
    """A configuration that insists on the binding and can see no torch ends in a sentence, not in a missing header."""
    environment = ENVIRONMENT | {"UPCONV_TORCH_DIR": str(tmp_path)}
    done = subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", "-DUPCONV_TORCH=ON"],
                          env=environment, capture_output=True, text=True, check=False)  # fmt: skip
    said = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "no torch >= 2.10 found" in said
    assert "--no-build-isolation" in said
