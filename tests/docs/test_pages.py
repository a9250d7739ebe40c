"""What the pages point at exists: links, headings, folders of the architecture, variables, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
SOURCES = ("include", "src", "bindings", "python", "tools", "cmake")


def headings(page: Path) -> set[str]:
    """Anchors of a page, as a repository browser makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_exist(page):
    """A path from the root of the tree, written as code, is there (cpu_example is the guide's invented kernel)."""
    paths = re.findall(
        r"`((?:include|src|bindings|python|tests|tools|cmake|docs|examples|bench)/[\w./-]+)`", page.read_text()
    )
    # Written by make gpu-test and make gpu-bench, where there is a GPU.
    planned = {"src/cuda", "tests/gpu/evidence.json", "bench/results/nvidia-h200.json"}
    assert [p for p in paths if "example.cpp" not in p and "example_kernels" not in p and p not in planned
            and not (ROOT / p).exists()] == []  # fmt: skip


def test_variables_and_options_exist():
    page = (ROOT / "docs" / "errors-and-variables.md").read_text(encoding="utf-8")
    files = [
        f
        for folder in SOURCES
        for f in (ROOT / folder).rglob("*")
        if f.suffix in (".hpp", ".cpp", ".py", ".sh", ".cmake")
    ]
    code = "\n".join(f.read_text(encoding="utf-8") for f in [*files, ROOT / "CMakeLists.txt", ROOT / "Makefile"])
    documented = set(re.findall(r"`(UPCONV_[A-Z_]+)`", page))
    assert documented
    assert [name for name in sorted(documented) if not re.search(rf"\b{name}\b", code)] == []
    read = set(re.findall(r"(?:getenv\(|environ(?:\.get)?[\[(])\"(UPCONV_\w+)\"", code))
    assert sorted(read - documented) == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z]+(?:-[a-z]+)*)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, page.name
