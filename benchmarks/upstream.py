"""LIIF's own scripts as they are, also without a GPU: python benchmarks/upstream.py FOLDER GPU SCRIPT ARGUMENTS...

FOLDER is a clone of yinboc/liif, GPU a number or "cpu", SCRIPT its test.py or demo.py. This file imports nothing of
ours beside, for what it takes to start is measured.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Change what .cuda() means where it must, and run the script."""
    folder, gpu, script, *arguments = sys.argv[1:]
    sys.path[0] = folder
    if gpu == "cpu":
        import torch

        torch.Tensor.cuda = lambda self, *args, **kwargs: self
        torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    sys.argv = [script, *arguments, "--gpu", gpu]
    runpy.run_path(str(Path(folder) / script), run_name="__main__")


if __name__ == "__main__":
    main()
