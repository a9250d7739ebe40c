# Whether a module's forward does the same calls every time, told from bytecode (and, where that branches, from the
# source): of what its text names, before it is traced, and of every function that ran, after. Asked by _tracing: a
# trace sees one path, and says nothing of others.
"""Bytecode check of a forward method."""

from __future__ import annotations

import dis
import functools
import gc
import os
import sys
import sysconfig
from types import CodeType, FunctionType
from typing import NamedTuple

from ._settled import settled

_STDLIB = tuple(os.path.realpath(sysconfig.get_paths()[name]) + os.sep for name in ("stdlib", "platstdlib"))
_INSTALLED = ("site-packages", "dist-packages")
#: What a decorator of torch's that sets a mode (no_grad, autocast) calls the function that it puts in place of another.
_DECORATED = ("decorate_context", "decorate_autocast")


class Known(NamedTuple):
    """Of an owner whose ``forward`` is looked at: what its conditions may ask (_settled)."""

    forward: CodeType | None = None
    plain: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()

    def of(self, code: CodeType) -> Known:
        return self if code is self.forward else Known()


def obstacle(function, owner: type, known: Known, seen: set | None = None) -> str | None:
    """Why a trace of ``function`` would not hold for every call, or None. Follows the methods of ``owner`` and the
    plain Python functions that it names; torch's own functions are trusted."""
    seen = set() if seen is None else seen
    if not isinstance(function, FunctionType):
        return "its forward is no Python function"
    if function.__code__ in seen:
        return None
    seen.add(function.__code__)
    found = branch(function.__code__, function.__qualname__, known.of(function.__code__))
    if found:
        return found
    for name in function.__code__.co_names:
        for called in (getattr(owner, name, None), function.__globals__.get(name)):
            if isinstance(called, FunctionType) and not called.__module__.startswith("torch."):
                found = obstacle(called, owner, known, seen)
                if found:
                    return found
    return None


@functools.lru_cache(4096)
def branch(code: CodeType, name: str, known: Known) -> str | None:
    """What in ``code`` takes one of several paths, or keeps something beyond the call."""
    for part in _nested(code):
        for instruction in dis.get_instructions(part):
            outside = instruction.opname == "STORE_DEREF" and instruction.argval in part.co_freevars
            if outside or instruction.opname in ("STORE_ATTR", "STORE_GLOBAL", "DELETE_ATTR", "DELETE_GLOBAL"):
                return f"{name} keeps state in '{instruction.argval}'"
    return f"{name} branches" if branches(code) and not settled(code, known.plain, known.counted) else None


@functools.lru_cache(4096)
def branches(code: CodeType) -> bool:
    return any("JUMP" in i.opname and "IF_" in i.opname for part in _nested(code) for i in dis.get_instructions(part))


@functools.lru_cache(4096)
def gives_none(function) -> bool:
    """Whether a forward may end without a value, as far as its own code says."""
    if function.__module__ and function.__module__.startswith("torch."):
        return False
    if not isinstance(function, FunctionType):
        return True
    before = None
    for i in dis.get_instructions(function.__code__):
        value = before if i.opname == "RETURN_VALUE" else i if i.opname == "RETURN_CONST" else None
        if value is not None and value.opname.endswith("_CONST") and value.argval is None:
            return True
        before = i
    return False


def _nested(code: CodeType):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


class Watch:
    """The Python functions that run within it, but for torch's, the standard library's and this package's own: whatever
    way they were called, be it super(), a decorator, a closure, a property or a method of another module.

    ``reached(name, value)`` is told of every list, dict and set that such a function names, before it runs."""

    def __init__(self, reached):
        self.reached = reached
        self.codes: dict[CodeType, None] = {}
        self.modes = False  # a function ran in a mode of torch's that a decorator set

    def __enter__(self):
        self.before = sys.getprofile()
        self.collects = gc.isenabled()
        gc.disable()  # what a collection closes or frees runs code, none of which is the forward's
        sys.setprofile(self._event)
        return self

    def __exit__(self, *exception):
        if self.collects:
            gc.enable()
        ours = self.before is None or callable(self.before)
        sys.setprofile(self.before if ours else None)
        if not ours:
            self.before.enable()  # cProfile's, which sets itself

    def _event(self, frame, event, argument):
        if event != "call":
            return
        code = frame.f_code
        if code.co_name in _DECORATED:
            decorated = frame.f_locals.get("func")
            if not (getattr(decorated, "__module__", None) or "").startswith("torch."):
                self.modes = True
        if code in self.codes or _trusted(frame.f_globals.get("__name__") or "", code.co_filename):
            return
        self.codes[code] = None
        for name in code.co_names:
            self.reached(name, frame.f_globals.get(name))
        for name in code.co_freevars:
            self.reached(name, frame.f_locals.get(name))

    def obstacle(self, known: Known) -> str | None:
        for code in self.codes:
            found = branch(code, getattr(code, "co_qualname", code.co_name), known.of(code))
            if found and not (code.co_name == "__init__" and "keeps state" in found):  # that of an object just made
                return found
        return "its forward sets a mode of torch's (no_grad, autocast)" if self.modes else None

    def branches(self) -> bool:
        return any(map(branches, self.codes))

    def names(self) -> set[str]:
        """Every attribute and global that these functions name."""
        return {name for code in self.codes for part in _nested(code) for name in part.co_names}


@functools.lru_cache(4096)
def _trusted(module: str, file: str) -> bool:
    if module == "torch" or module.startswith(("torch.", "upconv._")) or file.startswith("<frozen"):
        return True
    return os.path.realpath(file).startswith(_STDLIB) and not any(part in file for part in _INSTALLED)
