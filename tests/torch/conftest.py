# Every test of the PyTorch front end: finds the package in the source tree when it is not installed, fixes the seed.
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("upconv") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(20240607)
    torch.set_num_threads(1)  # tiny problems; test_threads covers more
