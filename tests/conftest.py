"""What all tests need before they import anything."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The repository root, so that plain `pytest` finds the packages too, without an installation.
sys.path.insert(0, str(ROOT))
# OpenMP's threads wait asleep: spinning, they take the core from whatever else runs on the machine. Read at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
