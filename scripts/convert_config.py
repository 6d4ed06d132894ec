"""A JSON config of SR3-PyTorch in, our YAML out:  python scripts/convert_config.py IN.json OUT.yaml"""

import sys
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core.system import process

process.begin()

from liif_core.commands.convert_config import main
from liif_core.experiments import jobs

if __name__ == "__main__":
    jobs.exit_with(main)
