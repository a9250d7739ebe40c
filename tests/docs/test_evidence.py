"""tools/kernels_sha256, and whether the GPU evidence in the tree is about this tree (which it says, no more)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("kernels", "src/cuda", "src/jit", "src/plan")


def digest(root: Path) -> str:
    done = subprocess.run([root / "tools" / "kernels_sha256"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path):
    for folder in (*FOLDERS, "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_the_digest_is_of_paths_and_contents(copy):
    before = digest(copy)
    assert before == digest(ROOT)
    assert len(before) == 64
    for folder in FOLDERS:
        file = sorted((copy / folder).rglob("*.*"))[0]
        text = file.read_bytes()
        file.write_bytes(text + b"\n")
        assert digest(copy) != before, file
        file.write_bytes(text)
        moved = file.rename(file.with_name("moved"))
        assert digest(copy) != before, file
        moved.rename(file)
    (copy / "src" / "another.cpp").write_text("")
    assert digest(copy) == before


def test_evidence_is_for_this_tree():
    file = ROOT / "tests" / "gpu" / "evidence.json"
    if not file.exists():
        pytest.skip("no GPU evidence: tests/gpu/evidence.json is not there")
    evidence = json.loads(file.read_text(encoding="utf-8"))
    if evidence["kernels_sha256"] != digest(ROOT):
        pytest.skip(f"the GPU evidence of {evidence['date']} is of an earlier tree: run `make gpu-test` on a GPU")
    assert bool(evidence["failed"]) == bool(evidence["failures"])
    if evidence["failed"]:
        pytest.xfail(f"on the GPU {evidence['failed']} failed: {'; '.join(evidence['failures'])}")
