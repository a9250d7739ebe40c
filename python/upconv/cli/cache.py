"""`upconv cache`: the compiled CUDA kernels kept on disk: where they are, how much they take, list and clear them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "cache",
        help="list, size or clear the compiled CUDA kernels kept on disk",
        description="The CUDA kernels that were compiled on this machine are kept on disk, so that each is compiled "
        "once. UPCONV_CACHE_DIR says where; removing them costs their compile time again and nothing else.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, about, run in (
        ("list", "one line a kernel, the newest last", print_list),
        ("size", "the folder, how many kernels, how many megabytes", print_size),
        ("clear", "remove them all", clear),
    ):
        actions.add_parser(name, help=about, description=about).set_defaults(run=run)


@dataclass(frozen=True)
class Entry:
    bytes: int
    age: float  # seconds
    path: Path
    about: str  # '' for a damaged file, which is a miss


def entries() -> list[Entry]:
    """The kernels on disk, oldest first."""
    from upconv import _ops

    found = []
    for line in _ops.kernel_cache("list").splitlines():
        size, age, path, about = line.split("\t")
        found.append(Entry(int(size), float(age), Path(path), about))
    return sorted(found, key=lambda e: -e.age)


def folder() -> str:
    from upconv import _ops

    return _ops.kernel_cache("folder")


def size_line() -> str:
    kept = entries()
    if not folder():
        return "no folder: UPCONV_CACHE_DIR is set to nothing, or there is no HOME"
    return f"{folder()}: {len(kept)} kernels, {sum(e.bytes for e in kept) / 1e6:.1f} MB"


def age_text(seconds: float) -> str:
    """'12 s', '5 min', '3 h', '8 d'."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def print_list(args: argparse.Namespace) -> int:
    for entry in entries():
        about = entry.about or f"damaged, will be compiled anew: {entry.path}"
        print(f"{entry.bytes / 1e3:9.1f} kB  {age_text(entry.age):>7}  {about}")
    print(size_line())
    return 0


def print_size(args: argparse.Namespace) -> int:
    print(size_line())
    return 0


def clear(args: argparse.Namespace) -> int:
    from upconv import _ops

    freed = int(_ops.kernel_cache("clear"))
    print(f"freed {freed / 1e6:.1f} MB in {folder() or 'no folder'}")
    return 0
