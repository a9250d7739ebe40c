"""What an exported file may not contain, found by reading it: `upconv check --static`, and the tests of every export.

Two readings: of the Python syntax tree, and of the text without comments, because public judges of such files search
the text for words. Nothing is run.
"""

from __future__ import annotations

import ast
import re
import sys

__all__ = ["findings"]

#: What torch computes for a layer: as functions of torch or F, as methods of tensors, as modules.
_COMPUTES = re.compile(
    r"^(_?conv(_transpose|_tbc|olution)?\w*|cudnn_conv\w*|mkldnn\w*|b?mm|matmul|einsum|(bi)?linear|add[bm]*mm|dot|mv"
    r"|relu6?_?|leaky_relu_?|elu_?|selu_?|celu_?|gelu|silu|mish|tanh_?|sigmoid_?|logsigmoid|hardtanh_?"
    r"|hardswish|hardsigmoid|softplus|softsign|softmax|softmin|log_softmax|prelu|glu|threshold_?|clamp\w*|clip_?|logsumexp|dropout\w*"
    r"|(batch|group|layer|instance|rms|local_response)_norm\w*|native_\w*norm\w*|normalize|native_batch_norm"
    r"|(avg|max|lp|adaptive_\w+|fractional_max)_pool\w*|interpolate|upsample\w*|pixel_shuffle|fold|unfold"
    r"|\w*_loss|cross_entropy|kl_div|cosine_similarity)$"
)
#: Of torch.nn, what only holds or begins parameters.
_HOLDERS = {"Module", "Parameter", "ParameterList", "ParameterDict", "ModuleList", "ModuleDict", "Sequential",
            "Identity", "init", "parameter", "Buffer"}  # fmt: skip
_MODULES_NEVER = {"threading", "_thread", "multiprocessing", "concurrent", "asyncio", "subprocess", "signal", "ctypes",
                  "importlib", "weakref", "gc", "pickle", "socket"}  # fmt: skip
_NAMES_NEVER = {
    "exec": "runs text",
    "eval": "runs text",
    "compile": "compiles text",
    "__import__": "imports by name",
    "lru_cache": "keeps results",
    "cache": "keeps results",
    "cached_property": "keeps results",
    "data_ptr": "looks at addresses",
    "Stream": "makes a stream of its own",
    "ExternalStream": "makes a stream of its own",
    "wait_stream": "orders streams",
    "record_stream": "orders streams",
    "stream": "changes the stream",
    "CUDAGraph": "records and replays work",
    "_make_subclass": "makes a tensor that may be lazy",
    "_make_wrapper_subclass": "makes a tensor that may be lazy",
    "Thread": "starts a thread",
    "set_default_dtype": "changes torch's settings",
    "set_float32_matmul_precision": "changes torch's settings",
}
#: Words that judges search for in the text; comments left out.
_TEXT = {
    r"\bpass\b": "the word 'pass'",
    r"\btry\s*[:{]": "'try'",
    r"\bexcept\b": "the word 'except'",
    r"\bcatch\s*\(": "'catch'",
    r"torch\.nn\.(?!(Module|parameter|Parameter|ParameterList|ParameterDict|ModuleList|ModuleDict|init)\b)": (
        "torch.nn's own layers"
    ),
    r"\b(torch\.)?nn\.functional\b": "torch.nn.functional",
    r"\bF\.\w+\s*\(": "torch.nn.functional",
    r"cudaStreamCreate|getStreamFromPool|cudaStreamNonBlocking|cuStreamCreate": "a stream of its own",
    r"std::(thread|async|jthread|future|promise|mutex|atomic)\b|pthread_": "a thread",
    r"\b(dlopen|dlsym|system|popen|fork|execv\w*)\s*\(": "another program or library",
    r"\bcudaGraph\w*": "a CUDA graph",
    r"\b(cudnn|cublas|cutlass)\w*::|\b(cudnn|cublas)[A-Z]\w*\s*\(": "a library's kernels",
    r"torch\.cuda\.(Event|synchronize)(\.\w+)?\s*=[^=]|time\.(perf_counter|time)\s*=[^=]": "an assignment to a clock",
}
#: What the C++ of a file may call of torch: memory, checks, the stream that is torch's own.
_CPP_ALLOWED = {"empty", "zeros", "IntArrayRef"}


def findings(text: str, keep_torch: bool = False) -> list[str]:
    """What is wrong with a file, a sentence each; empty when nothing is. With ``keep_torch`` it may compute with torch,
    but for transposed convolutions."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return [f"line {error.lineno}: not Python: {error.msg}"]
    found = [*_Reader(keep_torch).read(tree), *_missing(tree, text)]
    bare = _without_comments(text)
    for pattern, what in _TEXT.items():
        if keep_torch and what.startswith("torch.nn"):
            continue
        at = re.search(pattern, bare)
        if at:
            line = bare.count("\n", 0, at.start()) + 1
            found.append(f"line {line}: the text has {what}: {at.group(0).strip()!r}")
    return sorted(set(found), key=_line)


def _line(sentence: str) -> int:
    number = re.match(r"line (\d+)", sentence)
    return int(number[1]) if number else 0


def _without_comments(text: str) -> str:
    """As judges do it: every line ends at its first # or //. Preprocessor lines of CUDA go with it."""
    return "\n".join(line.split("#")[0].split("//")[0] for line in text.split("\n"))


def _missing(tree, text):
    defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    for name in ("ModelNew", "get_inputs", "get_init_inputs"):
        if name not in defined:
            yield f"it defines no {name}"
    if "__global__" not in text or "load_inline" not in text:
        yield "it has no CUDA kernel that load_inline compiles"


class _Reader(ast.NodeVisitor):
    def __init__(self, keep_torch: bool):
        self.keep_torch = keep_torch
        self.found: list[str] = []
        self.functions: list[ast.FunctionDef] = []

    def read(self, tree: ast.Module) -> list[str]:
        walked = [n for s in tree.body if isinstance(s, ast.Assign) for n in ast.walk(s)]
        self.globals = {n.id for n in walked if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        functions = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)]
        self.builders = {f.name for f in functions if any(_name(c) == "load_inline" for c in ast.walk(f))}
        self.visit(tree)
        return self.found

    def report(self, node, what):
        self.found.append(f"line {node.lineno}: {what}")

    def visit_Try(self, node):
        self.report(node, "a try statement")
        self.generic_visit(node)

    visit_TryStar = visit_Try

    def visit_Pass(self, node):
        self.report(node, "a bare pass")

    def visit_Global(self, node):
        self.report(node, f"a function assigns to the global {', '.join(node.names)}")

    visit_Nonlocal = visit_Global

    def visit_Import(self, node):
        for alias in node.names:
            self._imported(node, alias.name)

    def visit_ImportFrom(self, node):
        self._imported(node, node.module or "")
        for alias in node.names:
            self._imported(node, f"{node.module}.{alias.name}")

    def _imported(self, node, name):
        top = name.split(".")[0]
        if node.__class__ is ast.ImportFrom and node.level:
            self.report(node, "a relative import")
        elif top in _MODULES_NEVER:
            self.report(node, f"an import of {top}")
        elif top not in sys.stdlib_module_names and top != "torch":
            self.report(node, f"an import of {top}, which is neither torch nor the standard library")
        elif name.startswith("torch.nn.functional") and not self.keep_torch:
            self.report(node, "an import of torch.nn.functional")

    def visit_ClassDef(self, node):
        for base in node.bases:
            if _name(base) == "Tensor":
                self.report(node, f"{node.name} is a subclass of Tensor")
            if _name(base) == "Model":
                self.report(node, f"{node.name} inherits from Model")
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        for decorator in node.decorator_list:
            if _name(decorator) in ("cache", "lru_cache", "cached_property"):
                self.report(node, f"{node.name} keeps its results")
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    def visit_Name(self, node):
        if node.id in ("exec", "eval", "__import__"):
            self.report(node, f"{node.id} {_NAMES_NEVER[node.id]}")
        self.generic_visit(node)

    def visit_Attribute(self, node):
        if node.attr in _NAMES_NEVER and not (node.attr in ("compile", "cache") and _root(node) != "torch"):
            self.report(node, f"{ast.unparse(node)} {_NAMES_NEVER[node.attr]}")
        self.generic_visit(node)

    def visit_Assign(self, node):
        for target in node.targets:
            self._stored(node, target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self._stored(node, node.target, node.value)
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if isinstance(node.op, ast.MatMult) and not self.keep_torch:
            self.report(node, "a matrix product by torch")
        self.generic_visit(node)

    def _stored(self, node, target, value):
        """Nothing may outlive a call but compiled kernels; nothing of others may be replaced."""
        root = _root(target)
        if isinstance(target, ast.Attribute) and root in ("torch", "time", "nn", "F"):
            self.report(node, f"{ast.unparse(target)} is replaced")
        function = self.functions[-1] if self.functions else None
        if function is None:
            return
        if isinstance(target, ast.Attribute) and root == "self" and function.name == "forward":
            self.report(node, f"forward keeps something in {ast.unparse(target)}")
        if isinstance(target, ast.Subscript) and root in self.globals:
            made = isinstance(value, ast.Call) and _name(value.func) in self.builders
            if not made:
                self.report(node, f"{function.name} keeps something in {root}")

    def visit_Call(self, node):
        name, root = _name(node.func), _root(node.func)
        if isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if owner in ("nn", "torch.nn") and name not in _HOLDERS and not self.keep_torch:
                self.report(node, f"{owner}.{name} is a layer of torch's own")
            elif re.match(r"ConvTranspose\dd$", name or "") and owner in ("nn", "torch.nn"):
                self.report(node, f"{owner}.{name} is torch's own transposed convolution")
            elif owner != "self" and _COMPUTES.match(name or "") and (not self.keep_torch or "conv_transpose" in name):
                self.report(node, f"{ast.unparse(node.func)} is computed by torch")
            elif (root == "torch" and owner == "torch.ops") or ".ops." in f"{owner}.":
                self.report(node, f"{ast.unparse(node.func)} is an operator of torch or of another library")
        elif isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr", "globals", "vars"):
            self.report(node, f"{node.func.id} changes things by name")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and ("at::" in node.value or "torch::" in node.value):
            code = _without_comments(node.value)
            for call in re.finditer(r"\b(?:at|torch)::(\w+)\s*\(", code):
                if call[1] not in _CPP_ALLOWED:
                    self.report(node, f"its C++ calls at::{call[1]}")
            for call in re.finditer(r"\b(?:at|torch)::(?:_ops|native|redispatch|nn)::", code):
                self.report(node, f"its C++ calls {call[0]}")


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
