"""upconv cache lists, sizes and clears the kernels on disk, in a process of its own: the folder is read once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import upconv
from upconv import _ops
from upconv.cli.cache import age_text


@pytest.fixture
def cache(tmp_path):
    """Runs `upconv cache ...` on a folder of its own."""

    def run(*words, folder=tmp_path / "kernels"):
        return subprocess.run(
            [sys.executable, "-m", "upconv", "cache", *words],
            env={
                **os.environ,
                "UPCONV_CACHE_DIR": str(folder),
                "UPCONV_LIBRARY": str(_ops.library_path),
                "PYTHONPATH": str(Path(upconv.__path__[0]).parent),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    run.folder = tmp_path / "kernels"
    return run


def test_an_empty_cache(cache):
    for action in ("list", "size"):
        done = cache(action)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{cache.folder}: 0 kernels, 0.0 MB\n"
    assert cache("clear").returncode == 0


def test_no_cache(cache):
    assert "UPCONV_CACHE_DIR" in cache("size", folder="").stdout


def test_a_damaged_kernel_is_listed_and_cleared(cache):
    cache.folder.mkdir()
    (cache.folder / ("0" * 64 + ".kernel")).write_bytes(bytes(3000))
    (cache.folder / "notes.txt").write_text("mine")
    assert "3.0 kB" in cache("list").stdout
    assert "damaged" in cache("list").stdout
    assert "1 kernels" in cache("size").stdout
    assert cache("clear").returncode == 0
    assert [f.name for f in cache.folder.iterdir()] == ["notes.txt"]


def test_what_is_no_action(cache):
    assert cache("wash").returncode == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (30, "30 s"), (600, "10 min"), (7200, "2 h"), (864000, "10 d")]
)
def test_ages(seconds, text):
    assert age_text(seconds) == text
