"""Train the runs of a recipe; batch_0.sh calls this:  python scripts/batch_train.py --recipe bsds400 --only paper"""

import sys
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core.system import process

process.begin()

from liif_core.experiments import jobs
from liif_core.experiments.batch_train import main

if __name__ == "__main__":
    jobs.exit_with(main)
