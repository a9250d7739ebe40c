# The class ModelNew: the text of Model with its layers' classes replaced and, where the kernels compute the whole
# forward, a forward of its own. Asked by upconv.export.
"""From the text of Model to that of ModelNew."""

from __future__ import annotations

import ast

from torch import nn as torch_nn

from ._chains import HOLDERS, Forward
from ._problem_file import ProblemFile
from ._refusal import Refusal

__all__ = ["model_text"]

_REPLACED = {f"ConvTranspose{n}d": f"_ConvTranspose{n}d" for n in (1, 2, 3)}


def model_text(problem: ProblemFile, model: torch_nn.Module, forward: Forward | None) -> str:
    """The classes that ModelNew needs, last ModelNew itself. Without ``forward`` every forward stays as it is."""
    node = problem.node("Model")
    if not isinstance(node, ast.ClassDef):
        raise Refusal(f"Model of {problem.path.name} is not defined by a class statement")
    classes = [n for n in problem.needed([node]) if isinstance(n, ast.ClassDef)] if forward is None else []
    texts = [_Rewriting(problem, c, forward, model).text() for c in classes]
    return "\n\n\n".join([*texts, _Rewriting(problem, node, forward, model).text("ModelNew")])


class _Rewriting:
    """Edits of one class's text, each a span and what takes its place."""

    def __init__(self, problem, node, forward, model):
        self.problem, self.node, self.forward, self.model = problem, node, forward, model
        if forward is not None:
            self.held = {type(model.get_submodule(n)) for n in forward.held}
            self.absorbed = {type(model.get_submodule(n)).__name__ for n in forward.absorbed}
        self.lines = problem.text.splitlines(keepends=True)
        self.edits = []

    def text(self, name: str | None = None) -> str:
        for node in ast.walk(self.node):
            if isinstance(node, ast.Call):
                self._call(node)
            if name and isinstance(node, ast.Name) and node.id == self.node.name:
                self._replace(node, name)
        source = self._applied()
        if name is None:
            return source
        tree = ast.parse(source).body[0]
        return self._with_forward(source, tree, name)

    def _call(self, node):
        kind = _nn_class(node.func)
        if kind in _REPLACED:
            self._replace(node.func, _REPLACED[kind])
        elif self.forward is not None and kind in {k.__name__ for k in self.held}:
            self._replace(node.func, HOLDERS[getattr(torch_nn, kind)])
        elif self.forward is not None and kind in self.absorbed:
            self._replace(node.func, "nn.Identity")  # its work is in the kernels

    def _replace(self, node, text):
        self.edits.append((node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, text))

    def _applied(self) -> str:
        lines = [line.encode() for line in self.lines]
        for line, column, end_line, end_column, text in sorted(set(self.edits), reverse=True):
            if line != end_line:
                raise Refusal(f"line {line} of {self.problem.path.name} breaks inside a class's name")
            old = lines[line - 1]
            lines[line - 1] = old[:column] + text.encode() + old[end_column:]
        text = b"".join(lines[self.node.lineno - 1 : self.node.end_lineno]).decode()
        return text.rstrip("\n")

    def _with_forward(self, source, tree, name) -> str:
        """The class under its new name; of a chain, its constructor and a forward that calls the kernels."""
        lines = source.splitlines()
        lines[0] = lines[0].replace(f"class {self.node.name}", f"class {name}", 1)
        if self.forward is None:
            return "\n".join(lines)
        methods = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        if "__init__" not in methods or "forward" not in methods:
            raise Refusal("Model has no __init__ and forward of its own")

        arguments = methods["forward"].args
        start = min([tree.body[0].lineno, *(d.lineno for d in getattr(tree.body[0], "decorator_list", []))])
        head = [line for line in lines[: start - 1] if line.strip()]
        document = ast.get_docstring(tree)
        kept = [*lines[tree.body[0].lineno - 1 : tree.body[0].end_lineno], ""] if document else []
        constructor = methods["__init__"]
        body = constructor.body
        first = body[1] if ast.get_docstring(constructor) and len(body) > 1 else body[0]
        names = [a.arg for a in (*constructor.args.posonlyargs, *constructor.args.args, *constructor.args.kwonlyargs)][
            1:
        ]
        given = ", ".join(f"{n}={n}" for n in names)
        check = " " * first.col_offset + f"_check_arguments({given})"
        made = [
            *lines[min([constructor.lineno, *(d.lineno for d in constructor.decorator_list)]) - 1 : first.lineno - 1]
        ]
        made += [check, *lines[first.lineno - 1 : constructor.end_lineno]]
        signature = ast.unparse(arguments)
        returns = f" -> {ast.unparse(methods['forward'].returns)}" if methods["forward"].returns else ""
        body = [f"        {line}" for line in self.forward.text.splitlines()]
        forward = [f"    def forward({signature}){returns}:", *body]
        return "\n".join([*head, *kept, *made, "", *forward])


def _nn_class(func: ast.expr) -> str | None:
    """ "GELU" of `nn.GELU`, `torch.nn.GELU` or `GELU`."""
    if isinstance(func, ast.Attribute):
        return func.attr if hasattr(torch_nn, func.attr) else None
    if isinstance(func, ast.Name):
        return func.id if hasattr(torch_nn, func.id) else None
    return None
