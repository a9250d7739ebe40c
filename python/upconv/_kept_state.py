# What a module's own Python code could change outside its call: attributes, containers and tensors, as they were.
# Used by _tracing, which runs that code with placeholders and may leave nothing behind, and by optimize for its runs.
"""State of a module tree, to compare with and to go back to."""

from __future__ import annotations

import sys
from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import torch
from torch import nn as torch_nn
from torch.nn.parameter import UninitializedTensorMixin

_MOST = 20_000  # containers and tensors that are looked at: beyond are data sets, which no forward writes to
_MOST_ELEMENTS = 1 << 24  # of a tensor that is copied to go back to; that a larger one changed is seen all the same
_ATOMS = (int, float, complex, str, bytes, type(None), type, FunctionType, MethodType, BuiltinFunctionType, ModuleType,
          torch.dtype, torch.device, torch.Generator)  # fmt: skip
#: Packages whose objects are not looked into: a logger, a lock, a process group.
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"} - {"__main__"}
#: The name of an attribute that torch.fx makes for a tensor that it was given and does not know.
CONSTANT = "_tensor_constant"


class State:
    """Of ``module`` and everything below it."""

    def __init__(self, module: torch_nn.Module):
        self.held: dict[int, tuple] = {}  # id -> (label, container, what was in it)
        self.tensors: dict[int, tuple] = {}  # id -> (label, tensor, version, copy)
        for each in module.modules():
            if isinstance(each, torch.jit.ScriptModule):
                continue
            self.held[id(each)] = ("", each, dict(vars(each)))
            for name, value in vars(each).items():
                self.hold(name, value)

    def hold(self, label: str, value) -> None:
        """Remembers a value, if it can change, and what it contains."""
        stack = [(label, value)]
        while stack and len(self.held) + len(self.tensors) < _MOST:
            label, value = stack.pop()
            if isinstance(value, (*_ATOMS, torch_nn.Module)) or id(value) in self.held:
                continue
            if isinstance(value, torch.Tensor):
                self._tensor(label, value)
                continue
            if isinstance(value, dict):
                content, inner = dict(value), value.items()
            elif isinstance(value, (list, deque)):
                content, inner = list(value), ((label, v) for v in value)
            elif isinstance(value, (set, frozenset)):
                content, inner = set(value), ()
            elif isinstance(value, tuple):
                content, inner = None, ((label, v) for v in value)
            elif type(value).__module__.partition(".")[0] in _FOREIGN:
                continue
            elif isinstance(getattr(value, "__dict__", None), dict):
                content, inner = dict(vars(value)), vars(value).items()
            else:
                continue
            self.held[id(value)] = (label, value, content)
            named = label and not label.startswith("_")  # of torch's own "_buffers" and the like, what is in them
            stack += [(label if named or not isinstance(k, str) else k, v) for k, v in inner]

    def hold_container(self, label: str, value) -> None:
        """The same for a list, dict or set that is no module's: code reaches it by a global or a closure."""
        if isinstance(value, (list, dict, set, deque)):
            self.hold(label, value)

    def _tensor(self, label, tensor):
        if id(tensor) in self.tensors or isinstance(tensor, (torch_nn.Parameter, UninitializedTensorMixin)):
            return
        if tensor.is_inference():  # has no version to tell a change by
            return
        content = tensor.detach().clone() if tensor.numel() <= _MOST_ELEMENTS else None
        self.tensors[id(tensor)] = (label, tensor, tensor._version, content)

    def restore(self) -> list[str]:
        """Puts everything back; the names of what had changed."""
        changed = []
        for label, value, content in self.held.values():
            if isinstance(value, (list, deque)):
                if len(value) != len(content) or any(a is not b for a, b in zip(value, content, strict=True)):
                    changed.append(label)
                    value.clear()
                    value.extend(content)
            elif isinstance(value, set):
                if value != content:
                    changed.append(label)
                    value.clear()
                    value.update(content)
            elif content is not None and not isinstance(value, frozenset):
                changed += _restore_names(label, value if isinstance(value, dict) else vars(value), content)
        return changed + self.restore_tensors()

    def restore_tensors(self) -> list[str]:
        """The same for buffers, and tensors that are plain attributes, alone."""
        changed = []
        for label, tensor, version, content in self.tensors.values():
            if tensor._version != version:
                changed.append(label)
                if content is not None:
                    with torch.no_grad():
                        tensor.copy_(content)
        return changed


def _restore_names(label, names, content) -> list[str]:
    changed = [k for k in names if k not in content or names[k] is not content[k]]
    changed += [k for k in content if k not in names]
    if changed:
        for key in [k for k in names if k not in content]:
            del names[key]
        names.update(content)
    return [label or str(key) for key in changed]
