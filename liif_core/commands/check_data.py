"""The command of scripts/check_data.py: is the data what a config expects?

Every data set gets one line, every problem a sentence below it. Exit status 1 when something is wrong.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from liif_core.config import load as configs
from liif_core.data.check import Checker, Finding, make_uncached
from liif_core.data.sampling import epoch_order
from liif_core.data.sheet import sheet
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system.arguments import Parser, as_path
from liif_core.system.files import check_new


def examine(path: str, checker: Checker) -> Iterator[tuple[str, Finding]]:
    """The data sets of a training or test config by their keys, examined."""
    if "test_dataset" in configs.read_merged(configs.find(path)):
        test = configs.load(path, "test")
        found = checker.examine(test.test_dataset, training=False, batches=False, eval_type=test.eval_type)
        yield "test_dataset", found
        return
    config = configs.load(path, "train")
    yield "train_dataset", checker.examine(config.train_dataset, training=True, batches=True)
    if config.val_dataset is not None:
        # With an eval_type, validation takes whole images, one after the other.
        protocol = config.eval_type
        yield "val_dataset", checker.examine(config.val_dataset, False, batches=protocol is None, eval_type=protocol)


def check(path: str, checker: Checker) -> int:
    """Print what is found of a config's data sets; returns the number of problems."""
    count = 0
    try:
        for key, finding in examine(path, checker):
            found = len(finding.problems)
            verdict = "ok" if not found else f"{found} problem{'s' if found > 1 else ''}"
            print(f"{path}: {key}: {verdict}: {finding.summary}")
            for problem in finding.problems:
                print(f"  error: {problem}")
            for note in finding.notes:
                print(f"  note: {note}")
            count += found
    except UserError as error:  # the config itself; the others are looked at all the same
        print(f"{path}: 1 problem\n  error: {error}")
        count += 1
    return count


SAMPLES = 24  # on a sheet


def draw(path: str, file: Path) -> None:
    """A sheet of the samples that a config's training begins with, or of a test set's first. Raises UserError."""
    if "test_dataset" in configs.read_merged(configs.find(path)):
        wrapper = make_uncached(configs.load(path, "test").test_dataset, training=False)
        chosen = list(range(len(wrapper)))
    else:
        config = configs.load(path, "train")
        wrapper = make_uncached(config.train_dataset, training=True, seed=config.seed)
        chosen = epoch_order(config.seed, 1, len(wrapper)).tolist()
    rgb8.write_image(file, sheet(wrapper, chosen[:SAMPLES]))
    print(f"{path}: {min(SAMPLES, len(chosen))} samples, input beside target: {file}")


def main() -> int:
    """Check all configs; returns the exit status."""
    parser = Parser(description="Say whether the data is what configs expect.")
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="looked for here, in the repository, in configs/")
    parser.add_argument("--quick", action="store_true", help="read the headers of the images, not their pixels")
    sheet_help = "draw the first samples of a config into FILE, each input beside its target"
    parser.add_argument("--sheet", type=as_path, metavar="FILE", help=sheet_help)
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    arguments = parser.parse_args()
    if arguments.sheet:
        if len(arguments.configs) != 1:
            raise UserError(f"--sheet: expected one config, got {len(arguments.configs)}")
        check_new(arguments.sheet, Path(arguments.configs[0]), arguments.overwrite)
        rgb8.check_writable(arguments.sheet)
    checker = Checker(arguments.quick)
    count = sum(check(path, checker) for path in arguments.configs)
    if count:
        print(f"{count} problem{'s' if count > 1 else ''}", file=sys.stderr)
    elif arguments.sheet:
        draw(arguments.configs[0], arguments.sheet)
    return 1 if count else 0
