"""The activations of exported files and their derivatives, all thirteen, on the emulator against torch in float64."""

from __future__ import annotations

import ctypes
import subprocess

import torch
from emulation import BUILD, FLAGS, HEADER, LIBRARY, ROOT, TRANSLATOR, load, needs_emulator
from problems import write

from upconv import _activations
from upconv.export import export

STEPS = [(0, 0, 0), (1, 0.2, 0), (2, 1.3, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0), (7, 0, 0), (8, 0, 0),
         (9, -1.5, 2.0), (10, 0, 0), (11, 0, 0), (12, 1.5, 20.0)]  # fmt: skip

RUN = """
extern "C" __attribute__((visibility("default"))) int run(int step, int gradient, const void* z, const void* dy,
                                                          void* out, long long count) {
  const void* kernels[][2] = {%s};
  void* forward[] = {&z, &out, &count};
  void* backward[] = {&z, &dy, &out, &count};
  return cudaLaunchKernel(kernels[step][gradient], dim3(2), dim3(256), gradient ? backward : forward, 0, nullptr);
}
"""


@needs_emulator
def test_values_and_derivatives(tmp_path):
    path = tmp_path / "new.py"
    path.write_text(export(write("activated_2d", tmp_path)))
    new = load(path)
    source, rows = "", []
    for i, step in enumerate(STEPS):
        preamble = torch.ops.upconv._activation_text([float(v) for v in step])
        lines = "\n".join(new._flat(preamble + '#include "activation.cuh"\n', set()))
        source += f"namespace step{i} {{\n{lines}\n}}\n".replace('extern "C" __global__', "__global__")
        names = (f"step{i}::activation_{direction}" for direction in ("forward", "backward"))
        rows.append("{" + ", ".join(f"reinterpret_cast<const void*>(&{name})" for name in names) + "}")
    (tmp_path / "a.cu").write_text(source + RUN % ", ".join(rows))
    subprocess.run([TRANSLATOR, tmp_path / "a.cu", tmp_path / "a.cpp"], check=True)
    exposed = 'extern "C" __attribute__((visibility("default"))) void emu_entry_'
    text = (tmp_path / "a.cpp").read_text().replace(exposed, "static void emu_entry_")
    (tmp_path / "a.cpp").write_text(text)
    command = ["g++", *FLAGS, "-I", ROOT / "tests", "-include", HEADER, tmp_path / "a.cpp", LIBRARY,
               f"-Wl,-rpath,{BUILD}", "-o", tmp_path / "a.so"]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:3000]
    library = ctypes.CDLL(str(tmp_path / "a.so"))
    z = torch.cat([torch.linspace(-12, 12, 2001), torch.tensor([-80.0, 80.0, 1e-6, -1e-6])])
    dy = torch.rand(z.shape) + 0.5
    for i, step in enumerate(STEPS):
        exact = z.double().requires_grad_()
        y = _activations.apply(exact, [float(v) for v in step])
        y.backward(dy.double())
        for gradient, expected in ((0, y.detach()), (1, exact.grad)):
            got = torch.full_like(z, float("nan"))
            at = [ctypes.c_void_p(t.data_ptr()) for t in (z, dy, got)]
            assert library.run(i, gradient, *at, ctypes.c_longlong(z.numel())) == 0
            error = ((got.double() - expected).abs() / (1 + expected.abs())).max().item()
            assert error < 2e-6, (step, gradient, z[((got.double() - expected).abs()).argmax()].item(), error)
