"""How a command is run and left: a user's error is one sentence and exit status 2.

Each tree's entry script passes its framework's name and a function that imports its engine and
loader, which is called only after the device is chosen: frameworks read CUDA_VISIBLE_DEVICES when
they are imported.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from liif_core.errors import Stopped, UserError, sentence
from liif_core.system import packages
from liif_core.system.distributed import read as read_ranks
from liif_core.system.signals import kept_handlers
from liif_core.system.streams import lasting_streams

MODEL_HELP = "checkpoint, or one of pretrained/ by the name that `liif models` shows (default: clean)"
GPU_HELP = "GPU number; cpu for none (default: GPU 0 where there is one)"
PRECISION_HELP = "arithmetic of convolutions and products: 16 bits are faster where the device has them"
BORDER_HELP = "what the encoder sees beyond the image: its reflection, its edge again and again, or zeros as in LIIF"
ENSEMBLE_HELP = "average the results of the eight flips and rotations: a little better, eight times slower"
CONFIG_HELP = "of bare weights: the training config, or a YAML file with model and data_norm, that says what they are"
SET_HELP = "change the config, like --set epoch_max=2 train_dataset.batch_size=4; values are YAML"


def run(command: Callable, framework: str, load_tree: Callable) -> None:
    """Run a command; a user's error becomes one sentence and exit status 2, a stop 130."""
    with lasting_streams():
        try:
            command(framework, lambda: _loaded(framework, load_tree))
        except (Stopped, KeyboardInterrupt) as stop:
            print(str(stop) or "interrupted", file=sys.stderr)
            leave(130, framework)
        except Exception as error:
            if said := sentence(error):
                print(f"error: {said}", file=sys.stderr)
                leave(2, framework)
            if not is_one_of_several(framework):
                raise
            traceback.print_exc()
            leave(1, framework)


def _loaded(framework: str, load_tree: Callable) -> Any:
    """What load_tree gives. Raises UserError for a framework that is installed and cannot be imported.

    What it does to signals is undone.
    """
    try:
        with kept_handlers():
            return load_tree()
    except (ImportError, OSError) as error:
        if (getattr(error, "name", None) or "").startswith("liif_"):  # a bug of ours
            raise
        if isinstance(error, ImportError) or error.errno is None:  # a library that is not found or does not fit
            raise UserError(packages.failed(framework, error, *packages.PACKAGES.get(framework, ()))) from None
        # Jittor compiles in processes.
        needs = "it needs a /dev/shm that can be written to, and open files (ulimit -n)"
        raise UserError(f"{framework} cannot be started ({error.strerror or error}): {needs}") from None


def is_one_of_several(framework: str) -> bool:
    """Whether this process trains together with others."""
    with contextlib.suppress(UserError):
        return read_ranks(framework).world_size > 1
    return False


def leave(status: int, framework: str) -> None:
    """Exit; one of several processes at once, since MPI would wait for the others, and they for it."""
    if is_one_of_several(framework):
        leave_at_once(status)
    sys.exit(status)


def leave_at_once(status: int) -> NoReturn:
    """Exit without the frameworks' clean-up, which may wait for ever for processes that have ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
