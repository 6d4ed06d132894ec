"""Upscale an image: python liif_jittor/demo.py --help"""

import sys
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core.system import process

process.begin()

from liif_core.commands import demo, entry
from liif_jittor import load_tree

if __name__ == "__main__":
    entry.run(demo.demo, "jittor", load_tree)
