"""The command `liif models`: all that a config may name, with its arguments, read from the registries of a tree; and
the weights that --model may name."""

import textwrap
from collections.abc import Callable

from liif_core.checkpoints import shipped
from liif_core.config import describe
from liif_core.config.registry import Registry, nearest_known
from liif_core.errors import UserError
from liif_core.report.config_reference import registries
from liif_core.system import devices
from liif_core.system.arguments import Parser

WIDTH = 100  # columns of the list, of which INDENT are for names
INDENT = 30
FIXED = "\u00a0"  # a space at which textwrap does not break


def models(framework: str, load_tree: Callable) -> None:
    """Print all names with their arguments, or what the given names are in full."""
    parser = Parser(description="List the weights that --model may name, and all that a config may name.")
    parser.add_argument("name", nargs="*", help="only these, with description and, where the defaults say all, size")
    names = parser.parse_args().name
    devices.prepare(framework, "cpu")
    found, weights = registries(framework), shipped.listed()
    known = [*weights, *(name for registry in found.values() for name in registry.entries)]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"nothing is registered as '{unknown[0]}': {nearest_known(unknown[0], known)}")
    if not names:
        print("weights:")
    for one in weights.values():
        if not names or one.name in names:
            _print_weights(one)
    for title, registry in found.items():
        if not names:
            print(f"{title}:")
        for entry in describe.entries(registry):
            if not names:
                _print_line(entry, registry)
            elif entry.name in names:
                _print_in_full(entry, registry)


def _print_weights(weights: shipped.Weights) -> None:
    lines = [weights.path.name]
    for words, text in (("trained on ", weights.trained_on), ("for ", weights.use)):
        lines += textwrap.wrap(words + text, WIDTH - INDENT) if text else []
    print(f"  {weights.name:<{INDENT - 2}}" + ("\n" + " " * INDENT).join(lines))


def _print_line(entry: describe.Entry, registry: Registry) -> None:
    name = entry.name + (f" ({entry.kind})" if entry.kind != registry.kind else "")
    arguments = ", ".join(str(argument).replace(" ", FIXED) for argument in entry.arguments)
    lines = textwrap.wrap(arguments, WIDTH - INDENT, break_on_hyphens=False) or [""]
    print(f"  {name:<{INDENT - 2}}" + ("\n" + " " * INDENT).join(lines).replace(FIXED, " "))


def _print_in_full(entry: describe.Entry, registry: Registry) -> None:
    size = ""
    if registry.kind == "model" and all(argument.default is not None for argument in entry.arguments):
        count = sum(parameter.numel() for parameter in registry.make({"name": entry.name}).parameters())
        size = f", {count:,} parameters with these defaults"
    print(f"{entry.name} ({entry.kind}{size})")
    print(textwrap.indent(textwrap.fill(entry.text, WIDTH - 4), "    "))
    for argument in entry.arguments:
        print(f"    {argument}")
