# Whether a module's forward does the same calls every time, told from its bytecode. Asked by _pairs before a
# trace is trusted: a trace sees one path, and says nothing about the branches it did not take.
"""Bytecode check of a forward method."""

from __future__ import annotations

import dis
from types import CodeType, FunctionType


def obstacle(function: FunctionType, owner: type, seen: set | None = None) -> str | None:
    """Why a trace of ``function`` would not hold for every call, or None. Follows the methods of ``owner`` and the
    plain Python functions that it names; torch's own functions are trusted."""
    seen = set() if seen is None else seen
    if function.__code__ in seen:
        return None
    seen.add(function.__code__)
    for code in _nested(function.__code__):
        for instruction in dis.get_instructions(code):
            if "JUMP" in instruction.opname and "IF_" in instruction.opname:
                return f"{function.__qualname__} branches"
            if instruction.opname in ("STORE_ATTR", "STORE_GLOBAL", "DELETE_ATTR"):
                return f"{function.__qualname__} keeps state in '{instruction.argval}'"
    for name in function.__code__.co_names:
        for called in (getattr(owner, name, None), function.__globals__.get(name)):
            if isinstance(called, FunctionType) and not called.__module__.startswith("torch."):
                found = obstacle(called, owner, seen)
                if found:
                    return found
    return None


def _nested(code: CodeType):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
