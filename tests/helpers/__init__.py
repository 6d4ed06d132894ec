"""What the tests share. `tests/` is on the path of pytest and of the benchmarks: `from helpers import made_images`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
