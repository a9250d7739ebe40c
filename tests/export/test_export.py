"""`upconv export`: what it writes is what the repository holds and follows the rules; what it cannot write it refuses
by name."""

from __future__ import annotations

import ast
import re

import pytest
import torch
from emulation import ROOT, load
from problems import PROBLEMS, text, write

from upconv.cli import main
from upconv.cli.bench.chains.models import CHAINS
from upconv.cli.check.rules import findings
from upconv.cli.problem import Problem, parse_problem
from upconv.export import Refusal, export

MODELS = sorted((ROOT / "examples" / "models").glob("*.py"))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_examples_are_as_generated(path):
    kept = (ROOT / "examples" / "exported" / path.name).read_text()
    assert export(path) == kept, f"write it anew: upconv export {path.stem} -o examples/exported/{path.name}"
    assert findings(kept) == []


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_kind_follows_the_rules(name, tmp_path):
    written = export(write(name, tmp_path))
    assert findings(written) == []
    imported = {alias.name.split(".")[0] for node in ast.walk(ast.parse(written)) if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    assert imported <= {"torch", "math"}
    for source in ("types.cuh", "launch/sizes.hpp"):  # every source once
        assert written.count(f'"{source}": r"""') == 1


@pytest.mark.parametrize("number", CHAINS)
def test_level_2_of_kernelbench(number, tmp_path):
    """Nothing is left to torch; batch norms and pooling in front of the layer included."""
    written = export(write(f"L2/{number}", tmp_path))
    assert findings(written) == []
    assert "constexpr Chain chains[]" in written
    check_addresses(written)


def test_level_3_of_kernelbench(tmp_path):
    """The U-Net: its transposed convolutions are the file's, its ordinary ones torch's."""
    path = write("L3/unet", tmp_path)
    with pytest.raises(Refusal, match="comes before"):
        export(path)
    written = export(path, keep_torch=True)
    assert findings(written, keep_torch=True) == []
    assert written.count(", ConvTranspose2d ") >= 0 and "ConvTranspose2d(" in written


def check_addresses(written: str) -> None:
    """Every kernel that a launch names is in the namespace that it names: files of one name do not stand for each other
    (columns.cuh, closing/columns.cuh)."""
    kernels = re.findall(r'^    "(\w+)": \("[^"]*", "([^"]*)"', written, re.MULTILINE)
    files = dict(kernels)
    assert len(files) == len(kernels) > 0
    addresses = set(re.findall(r"address\((\w+)::(\w+)\)", written))
    assert addresses
    for space, entry in addresses:
        source = torch.ops.upconv._kernel_source(files[space])
        assert re.search(rf"\b{entry}\(", source), f"{entry} is not in {files[space]}"


def level_1() -> dict[str, Problem]:
    rows = (ROOT / "tests/shapes/kernelbench-l1.txt").read_text().splitlines()
    rows = [row.split("#")[0].split(maxsplit=1) for row in rows if row.startswith("L1/")]
    return {name: parse_problem(problem) for name, problem in rows}


@pytest.mark.parametrize("p", level_1().values(), ids=level_1().keys())
def test_level_1_of_kernelbench(p, tmp_path):
    """The layers of the problems themselves; nothing is refused, and every step has kernels for both targets."""
    path = tmp_path / "problem.py"
    options = f"{p.stride}, {p.padding}, {p.output_padding}, {p.groups}, {p.bias}, {p.dilation}"
    path.write_text(text(p.rank, p.batch, p.in_channels, p.out_channels, p.input, tuple(p.kernel), options))
    written = export(path)
    assert findings(written) == []
    check_addresses(written)
    module = tmp_path / "new.py"
    module.write_text(written)
    new = load(module)
    layer = (p.rank, p.in_channels, p.out_channels, *map(tuple, (p.kernel, p.stride, p.padding, p.output_padding)))
    assert [(*layer, tuple(p.dilation), p.groups, p.bias)] == new.LAYERS
    steps = new.STEPS.split("constexpr Step steps[] = {")[1]
    for step in ("FORWARD", "INPUT_GRADIENT", "WEIGHT_GRADIENT"):
        for tf32 in (0, 1):
            for hopper in ("true", "false"):
                # Two sets of kernels: the second takes the sizes that the first refuses.
                assert re.search(rf"step<\w+, \w+_any_size_\d+>\(0, {step}, {tf32}, {hopper}\)", steps)


def test_the_form(tmp_path):
    """Constructor, parameters, their values for a seed, inputs."""
    path = tmp_path / "new.py"
    problem = write("normed_2d", tmp_path)
    path.write_text(export(problem))
    old, new = load(problem), load(path)
    for seed in range(3):
        torch.manual_seed(seed)
        a = old.Model(*old.get_init_inputs())
        torch.manual_seed(seed)
        b = new.ModelNew(*new.get_init_inputs())
        assert list(a.state_dict()) == list(b.state_dict())
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
        assert torch.equal(torch.rand(1), _next(seed, old)), "the generator is where Model leaves it"
    b.load_state_dict(a.state_dict())
    with torch.device("meta"):
        assert [t.shape for t in old.get_inputs()] == [t.shape for t in new.get_inputs()]


def _next(seed, module):
    torch.manual_seed(seed)
    module.Model(*module.get_init_inputs())
    return torch.rand(1)


@pytest.mark.parametrize(
    "more, forward, named",
    [
        ("        self.drop = nn.Dropout(0.5)\n", "self.drop(self.conv_transpose(x))", r"drop \(Dropout\(p=0.5"),
        ("", "torch.cumsum(self.conv_transpose(x), dim=1)", "cumsum"),
        ("", "self.conv_transpose(x) + x.mean()", "mean"),
        ("        self.pre = nn.Conv2d(16, 16, 1)\n", "self.conv_transpose(self.pre(x))",
         r"pre \(Conv2d.* comes before"),
        ("", "self.conv_transpose(x, output_size=(258, 258))", "output_size"),
        ("        self.conv_transpose = nn.Conv2d(16, 16, 3)\n", "self.conv_transpose(x)", "no transposed convolution"),
    ],
)  # fmt: skip
def test_refusals_name_the_operation(more, forward, named, tmp_path):
    path = tmp_path / "problem.py"
    path.write_text(text(2, 8, 16, 16, (256, 256), 3, "", more, forward))
    with pytest.raises(Refusal, match=named):
        export(path)


@pytest.mark.parametrize(
    "forward",
    ["torch.tanh(self.pool(self.conv_transpose(x)).mean((2, 3), keepdim=True))",
     "torch.softmax(self.pool(self.conv_transpose(x)), dim=1)"],
)  # fmt: skip
def test_sizes_that_a_window_makes_1_are_refused(forward, tmp_path):
    """They would be taken for those that a step has reduced, at every size."""
    path = tmp_path / "problem.py"
    pool = "        self.pool = nn.MaxPool2d(2)\n"
    path.write_text(text(2, 2, 8, 24, (1, 1), 4, "stride=2, padding=1", pool, forward))
    with pytest.raises(Refusal, match=r"Pool after conv_transpose gives a result of size \(2, 24, 1, 1\)"):
        export(path)
    larger = tmp_path / "larger.py"  # not the same file: Python may keep what it compiled a moment ago
    larger.write_text(text(2, 2, 8, 24, (2, 2), 4, "stride=2, padding=1", pool, forward))
    export(larger)


def test_architectures_that_toolkits_know(tmp_path, monkeypatch):
    path = tmp_path / "problem.py"
    path.write_text(text(2, 8, 16, 16, (64, 64), 3))
    kept = tmp_path / "model_new.py"
    kept.write_text(export(path))
    new = load(kept)
    asked = []
    new.load_inline = lambda **options: asked.append(options["extra_cuda_cflags"])
    for cuda, capability, architecture in (
        ("13.0", (8, 6), "86"), ("11.8", (9, 0), "90"), ("12.8", (9, 0), "90a"), ("12.8", (10, 3), "100"),
        ("12.8", (12, 1), "120"),
    ):  # fmt: skip
        monkeypatch.setattr(torch.version, "cuda", cuda)
        new._build(capability)
        assert f"-gencode=arch=compute_{architecture},code=sm_{architecture}" in asked.pop()


def test_keep_torch(tmp_path):
    """Several layers and what lies between them: the layers are replaced, the rest stays."""
    path, new = tmp_path / "problem.py", tmp_path / "new.py"
    more = ("        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)\n"
            "        self.again = nn.ConvTranspose2d(8, 8, 2, stride=2)\n"
            "        self.conv = nn.Conv2d(8, 8, 3)\n")  # fmt: skip
    path.write_text(
        text(2, 8, 16, 16, (32, 32), 3, "", more, "torch.relu(self.conv(self.again(self.up(self.conv_transpose(x)))))")
    )
    with pytest.raises(Refusal, match="--keep-torch"):
        export(path)
    new.write_text(export(path, keep_torch=True))
    assert any("torch.relu" in f for f in findings(new.read_text()))
    assert findings(new.read_text(), keep_torch=True) == []
    module = load(new)
    assert len(module.LAYERS) == 3
    torch.manual_seed(0)
    a = load(path).Model(16, 16, 3)
    torch.manual_seed(0)
    b = module.ModelNew(16, 16, 3)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    with pytest.raises(ValueError, match="this file was made for transposed convolutions of"):
        module.ModelNew(16, 24, 3)


def test_base_keeps_to_its_shared_memory():
    written = export(ROOT / "examples" / "models" / "dense_2d.py", base="sm_89")
    steps = written.split("struct ")
    asked = {name.split(" ")[0]: int(number.split(";")[0]) for name, _, number in
             (s.partition("f.shared_bytes = ") for s in steps) if number}  # fmt: skip
    base = [number for name, number in asked.items() if "_base_" in name]
    assert len(base) >= 4 and max(base) <= 101376 < max(n for name, n in asked.items() if "_hopper_" in name)


def test_command_line(tmp_path, capsys):
    out = tmp_path / "new.py"
    assert main(["export", "dense_2d", "-o", str(out)]) == 0
    assert out.read_text() == (ROOT / "examples" / "exported" / "dense_2d.py").read_text()
    assert main(["export", "no_such_model"]) == 2
    problem = tmp_path / "soft.py"
    problem.write_text(text(2, 8, 16, 16, (256, 256), 3, "", "", "self.conv_transpose(x).cumsum(1)"))
    assert main(["export", str(problem)]) == 1
    assert "cumsum" in capsys.readouterr().err
    assert main(["check", "dense_2d", str(out), "--static"]) == 0
    if not torch.cuda.is_available():
        assert main(["check", "dense_2d", str(out)]) == 3
        assert "needs an NVIDIA GPU" in capsys.readouterr().out
    other = ROOT / "examples" / "exported" / "dilated_2d.py"
    assert main(["check", "dense_2d", str(other)]) == 1


RETURN = "        return _build().run(x)"
GOOD = '''import torch
from torch import nn
from torch.utils.cpp_extension import load_inline

SOURCE = r"""
__global__ void double_it(float* x) {}  // pass
"""


def _build():
    return load_inline(name="a", cpp_sources=[], cuda_sources=[SOURCE])


class ModelNew(nn.Module):
    def forward(self, x):
        return _build().run(x)


def get_inputs():
    return [torch.rand(2)]


def get_init_inputs():
    return []
'''


def test_rules_accept_what_is_well():
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    "old, new, named",
    [
        (RETURN, "        try:\n            return x\n        finally:\n            y = 1", "a try statement"),
        (RETURN, "        pass", "a bare pass"),
        (RETURN, "        return torch.relu(x)", "torch.relu is computed by torch"),
        (RETURN, "        return x.softmax(1)", "x.softmax"),
        (RETURN, "        return x @ x", "matrix product"),
        (RETURN, "        return nn.Conv2d(1, 1, 1)(x)", "layer of torch's own"),
        (RETURN, "        return torch.ops.aten.add(x, x)", "operator"),
        (RETURN, "        self.kept = x\n        return x", "forward keeps something"),
        (RETURN, "        KEPT[x.shape] = x\n        return x\n\n\nKEPT = {}", "keeps something in KEPT"),
        (RETURN, "        return x.data_ptr()", "looks at addresses"),
        (RETURN, "        with torch.cuda.stream(torch.cuda.Stream()):\n            return x", "changes the stream"),
        ("import torch\n", "import torch\nimport threading\n", "an import of threading"),
        ("import torch\n", "import torch\nimport numpy\n", "an import of numpy"),
        ("import torch\n", "import torch\nimport torch.nn.functional as F\n", "torch.nn.functional"),
        ("import torch\n", "import torch\nfrom functools import lru_cache\n\n\n@lru_cache\ndef f(x):\n    return x\n",
         "keeps its results"),
        ("class ModelNew(nn.Module)", "class Lazy(torch.Tensor):\n    x = 1\n\n\nclass ModelNew(nn.Module)",
         "subclass of Tensor"),
        ("{}  // pass", "{}\nvoid f() { at::conv_transpose2d(x); }", "its C++ calls at::conv_transpose2d"),
        ("{}  // pass", "{}\nvoid f() { cudaStreamCreate(&s); }", "a stream of its own"),
        ("{}  // pass", "{}\nint pass = 1;", "the word 'pass'"),
        ("__global__ ", "", "no CUDA kernel"),
        ("def get_inputs", "def inputs", "defines no get_inputs"),
        ("import torch\n", "import torch\ntorch.cuda.synchronize = None\n", "replaced"),
    ],
)  # fmt: skip
def test_rules_find(old, new, named):
    changed = GOOD.replace(old, new)
    assert changed != GOOD
    assert any(named in f for f in findings(changed)), findings(changed)
