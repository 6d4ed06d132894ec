"""Measure PSNR and SSIM of a model on a test set: python liif_jittor/test.py --help"""

import sys
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core.system import process

process.begin()

from liif_core.commands import entry, test
from liif_jittor import load_tree

if __name__ == "__main__":
    entry.run(test.test, "jittor", load_tree)
