"""Draw images of noise alone: python liif_torch/sample.py --help"""

import sys
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core.system import process

process.begin()

from liif_core.commands import entry, sample
from liif_torch import load_tree

if __name__ == "__main__":
    entry.run(sample.sample, "torch", load_tree)
