# Reads a file in KernelBench's form (Model, get_inputs(), get_init_inputs()) and copies from its text what an exported
# file needs. Asked by upconv.export.
"""The problem file, as a module and as text."""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import torch

from ._refusal import Refusal

__all__ = ["ProblemFile", "load"]

#: What the runtime of an exported file defines or imports itself.
_PROVIDED = {"torch", "nn", "math"}


@dataclass
class ProblemFile:
    path: Path
    text: str
    tree: ast.Module
    module: types.ModuleType

    def node(self, name: str) -> ast.AST | None:
        """The last top-level definition of ``name``."""
        found = None
        for node in self.tree.body:
            if name in _defined(node):
                found = node
        return found

    def source(self, node: ast.AST) -> str:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return "\n".join(self.text.splitlines()[first - 1 : node.end_lineno])

    def needed(self, roots: list[ast.AST]) -> list[ast.AST]:
        """The top-level statements, in order, that the names used by ``roots`` lead to (not the roots themselves)."""
        wanted, queue = set(), list(roots)
        while queue:
            for name in _used(queue.pop()):
                node = self.node(name)
                if node is not None and node not in wanted and node not in roots:
                    wanted.add(node)
                    queue.append(node)
        return [node for node in self.tree.body if node in wanted]


def _defined(node: ast.AST) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _used(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def import_text(node: ast.Import | ast.ImportFrom, path: Path) -> str | None:
    """An import of the problem file as an exported file needs it; None where the file has it already."""
    top = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else {node.module or ""}
    tops = {name.split(".")[0] for name in top}
    foreign = sorted(tops - {"torch"} - set(sys.stdlib_module_names))
    if foreign:
        raise Refusal(
            f"{path.name} imports {', '.join(foreign)}, and an exported file imports torch and the standard library"
        )
    if _defined(node) <= _PROVIDED:
        return None
    return ast.unparse(node)


def load(path: str | Path) -> ProblemFile:
    """Raises Refusal where the file is not in the form."""
    path = Path(path)
    text = path.read_text()
    tree = ast.parse(text, filename=str(path))
    spec = importlib.util.spec_from_file_location(f"upconv_problem_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in ("Model", "get_inputs", "get_init_inputs") if not hasattr(module, name)]
    if missing:
        raise Refusal(
            f"{path.name} defines no {', '.join(missing)}; the form is Model, get_inputs(), get_init_inputs()"
        )
    if not (isinstance(module.Model, type) and issubclass(module.Model, torch.nn.Module)):
        raise Refusal(f"Model of {path.name} is no torch.nn.Module")
    return ProblemFile(path, text, tree, module)
