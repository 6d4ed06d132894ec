"""The options of commands that draw images: how noise becomes one, and which noise."""

import argparse
from typing import Any, get_args

from liif_core.diffusion.samplers import Sampler
from liif_core.errors import UserError
from liif_core.system.arguments import Parser

NAMES = get_args(Sampler.model_fields["name"].annotation)


def add(parser: Parser) -> None:
    """--sampler, --steps, --eta, --start and --seed."""
    group = parser.add_argument_group(
        "of models that draw, such as sr3-unet (default: what the model was trained with)"
    )
    group.add_argument("--sampler", choices=NAMES, help="how noise becomes an image")
    group.add_argument(
        "--steps", type=int, help="how often the network is asked for an image, 1 to those of its schedule"
    )
    group.add_argument("--eta", type=float, help="of ddim: how much new noise each step adds, 0 to 1")
    group.add_argument(
        "--start",
        type=float,
        help="at which part of the schedule to begin, with as much noise on the image that is upscaled; 1: noise alone",
    )
    group.add_argument("--seed", type=int, default=0, help="which noise (default: 0)")


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, as arguments of Sampler. Raises UserError for numbers outside their range."""
    if arguments.seed < 0:
        raise UserError(f"--seed: expected 0 or more, got {arguments.seed}")
    if arguments.steps is not None and arguments.steps < 1:
        raise UserError(f"--steps: expected 1 or more, got {arguments.steps}")
    if arguments.eta is not None and not 0 <= arguments.eta <= 1:
        raise UserError(f"--eta: expected 0 to 1, got {arguments.eta:g}")
    if arguments.start is not None and not 0 < arguments.start <= 1:
        raise UserError(f"--start: expected more than 0, at most 1, got {arguments.start:g}")
    if arguments.eta is not None and arguments.sampler not in (None, "ddim"):
        raise UserError(f"--eta is of ddim, not of {arguments.sampler}: leave it away")
    given = {
        "name": arguments.sampler,
        "steps": arguments.steps,
        "eta": arguments.eta,
        "start": arguments.start,
    }
    return {key: value for key, value in given.items() if value is not None}
