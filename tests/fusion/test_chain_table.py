# tests/shapes/chains.txt holds what upconv.optimize makes of the level-2 chains now.
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "chain_table.py"


def test_is_up_to_date():
    made = subprocess.run([sys.executable, str(TOOL), "--check"])
    assert made.returncode == 0, "run tools/chain_table.py and read the difference"
