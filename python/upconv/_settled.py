# Whether the branches of a Python function go the same way in every call, told from its source. Asked by
# _straight_line of functions whose bytecode branches: a trace of those that do is as good as of a straight line.
"""Branches that the code itself settles.

A condition is settled where it is made of constants, of counters of ``range`` and ``enumerate``, of the owner's plain
attributes (which are compared before each call), and of whether a local variable is None yet that the function itself
sets to None or to what a call gave. ``total = None``, ``for block in blocks: total = block(x) if total is None else
total + block(x)`` takes one way each round, whatever x is.
"""

from __future__ import annotations

import ast
import builtins
import functools
import linecache
from types import CodeType

#: What holds conditions that are not looked at.
_OTHERS = (
    ast.While, ast.Try, ast.With, ast.Match, ast.AsyncFor, ast.AsyncWith, ast.Await, ast.Yield, ast.YieldFrom,
    ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.NamedExpr, ast.Global, ast.Nonlocal,
    ast.Delete,
)  # fmt: skip


def settled(code: CodeType, plain: frozenset[str] = frozenset(), counted: frozenset[str] = frozenset()) -> bool:
    """Whether every condition in ``code`` is. ``plain``: attributes of its first parameter that are compared before
    each call; ``counted``: those that are modules, whose number may be asked."""
    function = _source(code)
    if function is None:
        return False
    nodes = [n for n in ast.walk(function) if n is not function]
    if any(isinstance(n, _OTHERS) for n in nodes):
        return False
    names = _Names(function, plain, counted)
    tests = []
    for n in nodes:
        if isinstance(n, ast.If | ast.IfExp | ast.Assert):
            tests.append(n.test)
        elif isinstance(n, ast.comprehension):
            tests += n.ifs
        elif isinstance(n, ast.BoolOp):
            tests += n.values
        elif isinstance(n, ast.Compare) and len(n.ops) > 1:
            tests.append(n)
    return all(map(names.settles, tests))


def _source(code: CodeType) -> ast.FunctionDef | None:
    """The definition that ``code`` was compiled from, or None where that cannot be shown."""
    file = _compiled(code.co_filename, "".join(linecache.getlines(code.co_filename)))
    if file is None or not any(_same(code, other) for other in file[1]):
        return None
    found = [n for n in ast.walk(file[0]) if isinstance(n, ast.FunctionDef) and n.name == code.co_name
             and min(n.lineno, *(d.lineno for d in n.decorator_list), n.lineno) == code.co_firstlineno]  # fmt: skip
    return found[0] if len(found) == 1 else None


@functools.lru_cache(16)
def _compiled(name: str, text: str) -> tuple[ast.Module, tuple[CodeType, ...]] | None:
    """A file's tree, and the code of everything in it: what is compiled depends on what surrounds it."""
    try:
        tree = ast.parse(text)
        return tree, tuple(_all(compile(text, name, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return None


def _all(code: CodeType):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all(constant)


def _same(a: CodeType, b: CodeType) -> bool:
    parts = ("co_name", "co_firstlineno", "co_code", "co_names", "co_varnames", "co_freevars")
    constants = ([c for c in code.co_consts if not isinstance(c, CodeType)] for code in (a, b))
    return all(getattr(a, part) == getattr(b, part) for part in parts) and repr(next(constants)) == repr(
        next(constants)
    )


class _Names:
    """What a function's local variables may be."""

    def __init__(self, function: ast.FunctionDef, plain: frozenset[str], counted: frozenset[str]):
        a = function.args
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
        self.given = {arg.arg for arg in given}
        self.owner = given[0].arg if given else None
        self.plain, self.counted = plain, counted
        self.bound: dict[str, list] = {}  # the expressions that each local is set to; None: anything
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._bind(target, node.value)
            elif isinstance(node, ast.AnnAssign | ast.AugAssign):
                self._bind(node.target, node.value)
            elif isinstance(node, ast.For | ast.comprehension):
                self._bind_loop(node.target, node.iter)
        self.from_input = self._from_input()
        self.asked: set[str] = set()

    def _bind(self, target, value) -> None:
        alone = isinstance(target, ast.Name)
        for name in ast.walk(target):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                self.bound.setdefault(name.id, []).append(value if alone else None)

    def _bind_loop(self, target, values) -> None:
        """A counter is as settled as what it counts to."""
        called = self._called(values)
        if called == "range":
            self._bind(target, ast.Tuple(values.args, ast.Load()))
        elif called == "enumerate" and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            self._bind(target.elts[0], ast.Tuple(values.args[1:], ast.Load()))
            self._bind(target.elts[1], None)
        else:
            self._bind(target, None)

    def _from_input(self) -> set[str]:
        """Names of what the function was given, and of what it made of that."""
        found, before = self.given - {self.owner}, None
        while found != before:
            before = set(found)
            found |= {name for name, values in self.bound.items() if any(self._names(v) & found for v in values if v)}
        return found

    @staticmethod
    def _names(node) -> set[str]:
        return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}

    def _called(self, node) -> str | None:
        """The built-in function that a call is of."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            name = node.func.id
            if hasattr(builtins, name) and name not in self.bound and name not in self.given:
                return name
        return None

    def _of_owner(self, node, names: frozenset[str]) -> bool:
        return (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self.owner
                and node.attr in names)  # fmt: skip

    def settles(self, node) -> bool:
        """Whether a condition, or a part of one, is the same in every call."""
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Is | ast.IsNot):
            left, right = node.left, node.comparators[0]
            if isinstance(right, ast.Constant) and right.value is None and self._is_value(left):
                return True
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name):
            return self._is_number(node.id)
        if isinstance(node, ast.Attribute):
            return self._of_owner(node, self.plain)
        if self._called(node) == "len":
            return self._of_owner(node.args[0], self.counted)
        if isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.BinOp | ast.Tuple):
            return all(self.settles(n) for n in ast.iter_child_nodes(node) if isinstance(n, ast.expr))
        return False

    def _is_number(self, name: str) -> bool:
        """Set to settled expressions alone. (Of a variable that depends on itself, the others decide.)"""
        if name in self.given or not self.bound.get(name):
            return False
        if name in self.asked:
            return True
        self.asked.add(name)
        try:
            return all(value is not None and self.settles(value) for value in self.bound[name])
        finally:
            self.asked.discard(name)

    def _is_value(self, node) -> bool:
        """A local that is a constant, or what a call or an operation made of what the function was given."""
        if not isinstance(node, ast.Name) or node.id in self.given or not self.bound.get(node.id):
            return False
        return all(value is not None and self._gives_value(value) for value in self.bound[node.id])

    def _gives_value(self, value) -> bool:
        if isinstance(value, ast.Constant):
            return True
        if isinstance(value, ast.IfExp):
            return self._gives_value(value.body) and self._gives_value(value.orelse)
        if isinstance(value, ast.Call):  # not what a dict holds under a name
            looked_up = isinstance(value.func, ast.Attribute) and value.func.attr in ("get", "pop", "setdefault")
            return not looked_up and any(self._names(a) & self.from_input for a in value.args)
        return isinstance(value, ast.BinOp)
