"""A problem file and the file that was made from it, loaded: the models, their inputs, and how they begin.

Used by the judge, and alone where there is no GPU.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
from pathlib import Path

import torch

__all__ = ["Pair", "PairError"]

_loaded = itertools.count()


class PairError(Exception):
    """One of the files is not what it has to be."""


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(f"upconv_check_{next(_loaded)}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pair:
    def __init__(self, problem: Path, model: Path):
        self.problem, self.new = _load(problem), _load(model)
        for module, path, name in ((self.problem, problem, "Model"), (self.new, model, "ModelNew")):
            for wanted in (name, "get_inputs", "get_init_inputs"):
                if not hasattr(module, wanted):
                    raise PairError(f"{path.name} defines no {wanted}")

    def models(self, seed: int, device: str = "cpu"):
        """Both models, made from the same seed."""
        made = []
        for kind in (self.problem.Model, self.new.ModelNew):
            torch.manual_seed(seed)
            made.append(kind(*self.problem.get_init_inputs()).to(device))
        return made

    def inputs(self, seed: int, device: str, signed: bool = False) -> list:
        """The problem's inputs, drawn on the device's own generator where get_inputs() allows it."""
        torch.manual_seed(seed)
        with torch.device(device):
            inputs = [t.to(device) if isinstance(t, torch.Tensor) else t for t in self.problem.get_inputs()]
        return [2 * t - 1 if signed and isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in inputs]

    def interface(self):
        """Rows (good, test, what): what can be said without calling the models."""
        old, new = self.problem.Model, self.new.ModelNew
        same = _parameters(old.__init__) == _parameters(new.__init__)
        yield same, "constructor", "arguments and defaults are Model's" if same else (
            f"ModelNew{inspect.signature(new.__init__)} is not Model{inspect.signature(old.__init__)}")  # fmt: skip
        if not same:
            return
        same = _parameters(old.forward) == _parameters(new.forward)
        yield same, "forward's signature", "Model's" if same else (
            f"{inspect.signature(new.forward)} is not {inspect.signature(old.forward)}")  # fmt: skip
        same = [_plain(v) for v in self.problem.get_init_inputs()] == [_plain(v) for v in self.new.get_init_inputs()]
        yield same, "get_init_inputs", "the problem's" if same else "differs from the problem's"
        with torch.device("meta"):
            shapes = [
                [tuple(t.shape) for t in m.get_inputs() if isinstance(t, torch.Tensor)]
                for m in (self.problem, self.new)
            ]
        yield (
            shapes[0] == shapes[1],
            "get_inputs",
            f"{shapes[1]}" + ("" if shapes[0] == shapes[1] else f" is not {shapes[0]}"),
        )
        try:
            self.models(0)
        except (TypeError, ValueError) as error:
            yield False, "constructor", f"ModelNew refuses get_init_inputs(): {error}"
            return
        for seed in range(5):
            a, b = (m.state_dict() for m in self.models(seed))
            if list(a) != list(b):
                yield False, "state_dict", f"{list(b)} is not {list(a)}"
                return
            if not all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a):
                yield False, "initialisation", f"seed {seed}: values or shapes differ from Model's"
                return
        yield True, "initialisation", "five seeds: the same names, shapes and values in state_dict"
        model, other = self.models(7)[0], self.models(8)[1]
        other.load_state_dict(model.state_dict())
        good = all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
        yield good, "load_state_dict", "takes Model's" if good else "does not take Model's"
        trainable = [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in other.parameters()]
        yield trainable, "parameters", "trainable as Model's" if trainable else "trainable where Model's are not"


def _parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def _plain(value):
    return tuple(value) if isinstance(value, list) else value
