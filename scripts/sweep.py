"""Train the runs of a recipe as jobs of a cluster:  python scripts/sweep.py --recipe bsds400 --cluster slurm"""

import sys
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core.system import process

process.begin()

from liif_core.experiments import jobs
from liif_core.experiments.slurm import main

if __name__ == "__main__":
    jobs.exit_with(main)
