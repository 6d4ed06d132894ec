"""The command of scripts/prepare_data.py: what diffusion is trained on, from a folder of images.

Each image is brought to two sizes, and the small one to the large size again, into the folders OUT_L_R/hr_R, lr_L and
sr_L_R or, with --lmdb, into the LMDB OUT_L_R. Called again after it was stopped it goes on.
"""

from pathlib import Path

from liif_core.data.prepare import RESAMPLE, prepare
from liif_core.errors import UserError
from liif_core.system.arguments import Parser, as_whole


def sides(text: str) -> tuple[int, int]:
    """Low and high side of "16,128". Raises UserError for anything else."""
    try:
        low, high = (as_whole(part.strip()) for part in text.split(","))
    except Exception:
        low = high = 0
    if not 0 < low < high or high % low:
        raise UserError(f"--size: expected the low and the high side, the second a multiple, like 16,128, got '{text}'")
    return low, high


def main() -> int:
    """Prepare a folder of images; returns the exit status."""
    parser = Parser(description="Make low, high and upscaled low resolutions of images, for diffusion.")
    parser.add_argument("--path", "-p", type=Path, required=True, help="the folder of images, and of folders of them")
    parser.add_argument("--out", "-o", type=Path, required=True, help="what is made is OUT_L_R, L and R the sizes")
    parser.add_argument("--size", default="64,512", help="low and high side in pixels (default: 64,512)")
    parser.add_argument("--n_worker", type=int, default=3, help="processes that work on it (default: 3)")
    parser.add_argument("--resample", choices=sorted(RESAMPLE), default="bicubic", help="(default: bicubic)")
    parser.add_argument("--lmdb", "-l", action="store_true", help="an LMDB instead of folders (the package lmdb)")
    arguments = parser.parse_args()
    low, high = sides(arguments.size)
    if arguments.n_worker < 1:
        raise UserError(f"--n_worker: expected 1 or more processes, got {arguments.n_worker}")
    target = Path(f"{arguments.out}_{low}_{high}")
    count = prepare(arguments.path, target, (low, high), arguments.resample, arguments.n_worker, arguments.lmdb)
    kind = "prepared-lmdb" if arguments.lmdb else "prepared-folders"
    print(f"{target}: {count:,} images, for the data set {kind} with low: {low}, high: {high}")
    return 0
