"""YAML as configs use it: text, numbers, true, false, null, lists, and mappings with text as keys.

PyYAML reads YAML 1.1, in which 1e-4 is text and the second of two equal keys wins; here 1e-4 is a number, as in YAML
1.2, and a key that is given twice an error. So is all that a config cannot mean, by the line where it is: infinity,
010, which is 8 to some, tags of programs, an alias inside of what it stands for.
"""

import math
import re
from typing import Any

import yaml

from liif_core.errors import UserError

DEEPEST = 50  # blocks within blocks; no config has more than ten
LONGEST = 100_000  # values, each as often as aliases repeat it
LARGEST, LARGEST_FLOAT = 2**63, 3.4e38  # what arrays can hold, the networks' of float32

_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+\Z")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+\Z|.*:")  # octal, and in sixties
_ACCEPTED = "expected text, a number, true, false, null, a list or a mapping"


def _with_exponents(base: Any) -> dict[str, list]:
    """Which plain words are numbers: PyYAML's rules, with 1e-4, without dates and `=`, which are text here."""
    kept = ("bool", "int", "float", "null", "merge")
    rules = {
        letter: [rule for rule in found if rule[0].removeprefix(_TAG) in kept]
        for letter, found in base.yaml_implicit_resolvers.items()
    }
    for letter in "-+.0123456789":
        rules[letter] = [*rules.get(letter, []), (f"{_TAG}float", _EXPONENT)]
    return rules


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that `parse` would take for a number."""

    yaml_implicit_resolvers = _with_exponents(yaml.SafeDumper)


class _Loader(yaml.SafeLoader):
    """Refuses while it composes, where lines are known and nothing has been built."""

    yaml_implicit_resolvers = _with_exponents(yaml.SafeLoader)

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self.open: list[str | None] = []  # the anchors of the blocks around the value under way
        self.weights: dict[int, int] = {}  # by id of a node: how many values are in it, aliases followed

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) and event.anchor in self.open:
            raise _Wrong(event, f"the alias *{event.anchor} is inside of what it stands for")
        if len(self.open) > DEEPEST:
            raise _Wrong(event, f"more than {DEEPEST} blocks are within each other")
        self.open.append(getattr(event, "anchor", None))
        try:
            node = super().compose_node(parent, index)
        finally:
            self.open.pop()
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        self.weights[id(node)] = weight = 1 + sum(self.weights[id(part)] for part in parts)
        if weight > LONGEST:
            raise _Wrong(node, f"more than {LONGEST:,} values, aliases followed")
        return node

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                what = f"got {key.value}" if isinstance(key, yaml.ScalarNode) else "got a list or a mapping"
                raise _Wrong(key, f"expected text as a key, {what}")
            if key.value in lines:
                both = f"lines {lines[key.value]} and {_line(key)}"
                raise _Wrong(key, f"the key '{key.value}' is given twice, in {both}")
            lines[key.value] = _line(key)
        return node

    def construct_object(self, node, deep=False):
        if node.tag.removeprefix(_TAG) not in ("str", "int", "float", "bool", "null", "seq", "map"):
            raise _Wrong(node, f"{_ACCEPTED}, got {node.tag.replace(_TAG, '!!')}")
        if node.tag == f"{_TAG}int" and _AMBIGUOUS.match(str(node.value)):
            raise _Wrong(node, f"expected a number without a 0 or a colon in front, got {str(node.value)[:40]}")
        try:
            value = super().construct_object(node, deep)
        except (KeyError, ValueError, AttributeError):  # !!int ten, 0x_, a million digits
            raise _Wrong(node, f"{_ACCEPTED}, got {str(node.value)[:40]}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _Wrong(node, f"expected a finite number, got {str(node.value)[:40]}")
        if isinstance(value, int) and abs(value) >= LARGEST or isinstance(value, float) and abs(value) > LARGEST_FLOAT:
            limit = "2^63" if isinstance(value, int) else f"{LARGEST_FLOAT:g}"
            raise _Wrong(node, f"expected a number below {limit}, got {str(node.value)[:40]}")
        return value


class _Wrong(Exception):
    """What is wrong at an event or a node."""

    def __init__(self, at: Any, text: str):
        super().__init__(text)
        self.line = _line(at)


def _line(at: Any) -> int:
    return at.start_mark.line + 1


def parse(text: str | bytes, where: str) -> Any:
    """The content of a YAML file (bytes) or of a word on the command line (str). where: for the message, which names
    the line of a file too.

    Raises UserError for what is no YAML or no value of a config.
    """

    def sentence(line: int | None, what: str) -> UserError:
        return UserError(f"{where}{f', line {line}' if line and isinstance(text, bytes) else ''}: {what}")

    try:
        return yaml.load(text, _Loader)
    except _Wrong as wrong:
        raise sentence(wrong.line, str(wrong)) from None
    except yaml.reader.ReaderError as error:
        kind = "the character U+" if error.encoding == "unicode" else "a byte that is no UTF-8, 0x"
        raise sentence(None, f"not valid YAML: {kind}{error.character:02X} at position {error.position}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        parts = [getattr(error, "context", None), getattr(error, "problem", None) or str(error)]
        raise sentence(mark and mark.line + 1, f"not valid YAML: {', '.join(filter(None, parts))}") from None


def dump(content: Any) -> str:
    """Content as YAML that `parse` reads back."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)


def numbers(value: Any) -> Any:
    """The value with every text in it that spells a number as that number, for arguments that are no paths.

    Former runs kept `lr: 1e-4` as text, and whoever writes "1e-4" means the number.
    """
    if isinstance(value, dict):
        return {key: numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [numbers(one) for one in value]
    if isinstance(value, str) and _NUMBER.match(value):
        return int(value) if value.lstrip("-+").isdecimal() else float(value)
    return value
