"""How long do the benchmark sets take?  python benchmarks/evaluate.py [--sets set5 set14 b100] [--scales 2 3 4 6 8]

Whole processes from start to end on the weights in pretrained/: our test.py with all configs at once, LIIF's once
for each, since it takes one. Beside the seconds stand the PSNRs that they print. --first-k N: N images of each set.
Jittor runs once before, untimed, to compile.
"""

import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import candidates
import common
import yaml

from liif_core.config import load

DATASET = "test_dataset.dataset.args"


class Test:
    """Runs of test.py: what they printed last, and the most memory that one of them took."""

    def __init__(self, commands: list[list]):
        self.commands = commands
        self.psnrs: list[float] = []
        self.peak = 0.0

    def run(self) -> float:
        """Seconds of all commands together."""
        total, self.psnrs = 0.0, []
        for command in self.commands:
            seconds, peak, output = common.whole_process(command)
            total, self.peak = total + seconds, max(self.peak, peak)
            self.psnrs += [float(line.split()[1]) for line in output.splitlines() if line.startswith("result:")]
        return total


def ours(framework: str, precision: str, arguments: Namespace, names: list[str]) -> Test:
    """One process for all."""
    command = [sys.executable, f"liif_{framework}/test.py", "--gpu", arguments.gpu, "--config", *names]
    command += ["--precision", precision]
    if arguments.first_k:
        command += ["--set", f"{DATASET}.first_k={arguments.first_k}"]
    return Test([command])


def original(arguments: Namespace, names: list[str], place: Path) -> Test:
    """One process for each, on copies of the configs that lead to the same images from anywhere."""
    weights = place / "weights.pth"
    candidates.original_weights(arguments.upstream, weights)
    commands = []
    for name in names:
        content = load.read_yaml(load.find(name))
        given = content["test_dataset"]["dataset"]["args"]
        for key in given:
            if key.startswith("root_path"):
                given[key] = str(load.locate_data(given[key]).resolve())
        if arguments.first_k:
            given["first_k"] = arguments.first_k
        path = place / Path(name).name
        path.write_text(yaml.safe_dump(content))
        launcher = [sys.executable, common.ROOT / "benchmarks/upstream.py", arguments.upstream, arguments.gpu]
        commands.append([*launcher, "test.py", "--config", path, "--model", weights])
    return Test(commands)


def print_psnrs(names: list[str], tests: dict[str, Test]) -> None:
    """A line for each config."""
    rows = []
    for number, name in enumerate(names):
        _, data, scale = Path(name).stem.split("-")
        rows.append([f"{data} x{scale}", *(f"{test.psnrs[number]:.4f}" for test in tests.values())])
    print("\nMean PSNR in dB\n")
    common.print_table(["set", *tests], rows)


def main() -> None:
    """Time in turn, print seconds and scores."""
    parser = common.options(__doc__, runs=1)
    parser.add_argument("--sets", nargs="+", default=["set5", "set14", "b100"])
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 3, 4, 6, 8])
    parser.add_argument("--first-k", type=int, metavar="N")
    arguments = common.parse(parser)
    names = [f"test/test-{data}-{scale}.yaml" for data in arguments.sets for scale in arguments.scales]
    with tempfile.TemporaryDirectory() as place:
        tests = {}
        if arguments.upstream and common.selected(candidates.AS_IT_IS, arguments.only):
            tests[candidates.AS_IT_IS] = original(arguments, names, Path(place))
        for name, (_, framework, precision) in candidates.ours(arguments, None).items():
            if common.selected(name, arguments.only):
                tests[name] = ours(framework, precision, arguments, names)
                if framework == "jittor":
                    tests[name].run()
        seconds = common.in_turn({name: test.run for name, test in tests.items()}, arguments.runs)
    common.print_head(arguments.kind)
    images = f", the first {arguments.first_k} images of each" if arguments.first_k else ""
    title = f"test.py on {', '.join(arguments.sets)} at x{', x'.join(map(str, arguments.scales))}{images}"
    peaks = {name: f"{test.peak:.0f}" for name, test in tests.items()}
    common.print_times(title, seconds, candidates.BASELINES, {"peak MiB of a process": peaks})
    print_psnrs(names, tests)


if __name__ == "__main__":
    common.exit_with(main)
