"""The command `liif` of an installed package: its first word says which of the project's commands is meant.

What follows goes to the code that the scripts run; only --framework is read here. Nothing but the standard library
is imported before the command is known: `liif doctor` works where packages are missing.
"""

from __future__ import annotations

import importlib
import sys

import liif_core
from liif_core.errors import UserError
from liif_core.system import arguments, packages, process
from liif_core.system.streams import lasting_streams

# name: (module, function, what it does)
COMMANDS = {
    "demo": ("liif_core.commands.demo", "demo", "upscale images by any factor"),
    "train": ("liif_core.commands.train", "train", "train a model from a config"),
    "test": ("liif_core.commands.test", "test", "measure PSNR and SSIM on test sets"),
    "sample": ("liif_core.commands.sample", "sample", "draw images of noise alone, with a model of diffusion"),
    "batch-train": ("liif_core.experiments.batch_train", "main", "train the runs of a recipe, one after the other"),
    "batch-test": ("liif_core.experiments.batch_test", "main", "test all models on all test sets"),
    "batch-demo": ("liif_core.experiments.batch_demo", "main", "upscale one image with all models"),
    "sweep": ("liif_core.experiments.slurm", "main", "train the runs of a recipe as jobs of a cluster"),
    "check-data": ("liif_core.commands.check_data", "main", "say whether images are what a config expects"),
    "download": ("liif_core.commands.download", "main", "fetch the public data sets into load/"),
    "prepare": ("liif_core.commands.prepare", "main", "make low and high resolutions of images, for diffusion"),
    "models": ("liif_core.commands.models", "models", "list weights by name, and what a config may name"),
    "metrics": ("liif_core.commands.metrics", "main", "list what test and validation can measure"),
    "convert": ("liif_core.commands.convert", "main", "turn a checkpoint into bare weights"),
    "convert-config": ("liif_core.commands.convert_config", "main", "turn a JSON config of SR3-PyTorch into YAML"),
    "compare": ("liif_core.commands.compare", "main", "lay methods side by side, in a table and in details"),
    "report": ("liif_core.commands.report", "main", "lay runs and scores beside the published figures"),
    "doctor": ("liif_core.commands.doctor", "main", "say what this machine lacks, and how to fix it"),
}
WITH_FRAMEWORK = ("demo", "train", "test", "sample", "models")


def overview() -> str:
    """All commands, one line each."""
    lines = [f"  {name:<16}{summary}" for name, (_, _, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: liif COMMAND ...",
            "",
            *lines,
            "",
            f"{', '.join(WITH_FRAMEWORK)} take --framework torch (the default) or jittor.",
            "liif COMMAND --help lists a command's arguments, liif --version says which version this is.",
        ]
    )


def run_in_framework(name: str, words: list[str]) -> None:
    """Run a command of both trees in that which --framework names."""
    from liif_core.commands import entry

    parser = arguments.Parser(prog=f"liif {name}", add_help=False, allow_abbrev=False)
    parser.add_argument("--framework", choices=packages.FRAMEWORKS, default="torch")
    chosen, rest = parser.parse_known_args(words)
    module, function, _ = COMMANDS[name]
    command = getattr(importlib.import_module(module), function)
    sys.argv = [f"liif {name}", *rest]
    try:
        entry.run(command, chosen.framework, importlib.import_module(f"liif_{chosen.framework}").load_tree)
    finally:
        if {"-h", "--help"} & set(rest):  # the command's own parser does not know of it
            print("\n--framework torch (the default) or jittor chooses the framework.")


def main() -> None:
    """Run the command that sys.argv names."""
    with lasting_streams():
        try:
            run(*(sys.argv[1:] or ["--help"]))
        except UserError as error:
            process.leave(str(error))


def run(name: str, *words: str) -> None:
    """Run one of COMMANDS with these arguments. Raises UserError for another name."""
    if name not in ("doctor", "--version", "-h", "--help"):
        process.begin()
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"liif {liif_core.__version__}")
    elif name in WITH_FRAMEWORK:
        run_in_framework(name, list(words))
    elif name in COMMANDS:
        module, function, _ = COMMANDS[name]
        command = getattr(importlib.import_module(module), function)
        sys.argv = [f"liif {name}", *words]
        if name == "doctor":
            sys.exit(command())
        from liif_core.experiments import jobs

        jobs.exit_with(command)
    else:
        from liif_core.config.registry import nearest_known

        raise UserError(f"no command '{name}': {nearest_known(name, COMMANDS)}")
